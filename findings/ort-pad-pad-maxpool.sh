#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  Two Pads in a row before a MaxPool, each smaller than its window, are both made padding of the MaxPool.
#            Together they are as large as the window, which the same program then refuses: a valid model runs without
#            optimisations and cannot be loaded with them, which are the default.
# Seen       without optimisations (1, 1, 3, 3); with them FAIL, "pad should be smaller than kernel"
# For us     A reason to join Pads before a file is written, and to hold files against the default session too.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
nodes = [helper.make_node("Pad", ["x", "pads"], ["p"]), helper.make_node("Pad", ["p", "pads"], ["q"]),
         helper.make_node("MaxPool", ["q"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64), "pads")
graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 3])], [pads])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model)
seen = []
for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    o = ort.SessionOptions()
    o.graph_optimization_level, o.log_severity_level = level, 4
    try:
        y = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
        seen.append(str(y[0].shape))
    except Exception as e:
        print(e)
        seen.append("pool_attributes" if "pool_attributes" in str(e) else str(e))
print(seen)
raise SystemExit(seen != ["(1, 1, 3, 3)", "pool_attributes"])
PY
