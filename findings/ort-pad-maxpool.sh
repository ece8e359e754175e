#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  A Pad with constant zeros before a MaxPool is made the padding of the MaxPool by the default
#            session. Padding of MaxPool is no element (the operator's text pads with the lowest value), a zero of Pad
#            is: where the image is negative at the border the maximum should be 0, and becomes negative.
#            Nothing is said, and the model is an ordinary one, as exporters write it for asymmetric padding.
# Seen       without optimisations 0.0 0.0 0.0 -1.0, with them (the default) -1.0 -1.0 -1.0 -1.0
# For us     Wrong numbers of a default session on a right file. Nothing we write helps but another operator order.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
nodes = [helper.make_node("Pad", ["x", "pads"], ["p"]),
         helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64), "pads")
graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3, 3])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])], [pads])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model)
x = -np.ones((1, 1, 3, 3), np.float32)
seen = []
for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    o = ort.SessionOptions()
    o.graph_optimization_level = level
    y = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    seen.append(" ".join(str(v) for v in y.ravel()))
print(seen)
raise SystemExit(seen != ["0.0 0.0 0.0 -1.0", "-1.0 -1.0 -1.0 -1.0"])
PY
