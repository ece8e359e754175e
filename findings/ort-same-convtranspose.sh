#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  ConvTranspose with auto_pad SAME_UPPER has input * stride outputs, says the text. Where the window is smaller
#            than the stride that needs output_padding, which is not added: the last positions are missing.
# Seen       7 inputs, stride 2, window 1: 13 outputs, by the text 14; window 2: 14.
# For us     auto_pad becomes pads and output_padding when a model is read.
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
for window in (1, 2):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], auto_pad="SAME_UPPER")
    y = run([node], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 7])],
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "length"]),
            [numpy_helper.from_array(np.ones((1, 1, window), np.float32), "w")], {"x": np.ones((1, 1, 7), np.float32)})
    seen.append(y.shape[2])
print(seen)
raise SystemExit(seen != [13, 14])
PY
