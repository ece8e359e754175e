#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  A symmetric HannWindow (periodic=0) divides by size - 1. For a window of one element that is 0/0 and the
#            result NaN; numpy.hanning(1) is 1.
# Seen       size 1, periodic 0: nan; size 2: 0 0.
# For us     A model that computes the size of its window is not held against ONNX Runtime for size 1.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

def run(nodes, inputs, output, init, feeds, opset=17, ir=8):
    graph = helper.make_graph(nodes, "g", inputs, [output], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]

seen = []
for size in (1, 2):
    node = helper.make_node("HannWindow", ["n"], ["y"], periodic=0)
    y = run([node], [helper.make_tensor_value_info("n", TensorProto.INT64, [])], helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
            [], {"n": np.array(size, np.int64)})
    seen.append(np.round(y, 6).tolist())
print(seen)
raise SystemExit(not (np.isnan(seen[0][0]) and len(seen[0]) == 1 and np.allclose(seen[1], 0, atol=1e-6)))
PY
