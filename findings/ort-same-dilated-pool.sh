#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  MaxPool with auto_pad SAME_UPPER and stride 1 keeps the length: the text says ceil(input / stride), with padding
#            computed from the dilated window. With dilations above 1 the padding is that of the undilated window,
#            and the output is shorter.
# Seen       length 6, window 4, dilation 2: length 3, by the text 6; dilation 1: 6.
# For us     auto_pad becomes explicit pads when a model is read, by the text; such a file then means in ONNX Runtime what
#            it says.
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
for dilation in (1, 2):
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[4], dilations=[dilation], auto_pad="SAME_UPPER")
    y = run([node], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6])],
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "length"]), [], {"x": np.ones((1, 3, 6), np.float32)})
    seen.append(y.shape[2])
print(seen)
raise SystemExit(seen != [6, 3])
PY
