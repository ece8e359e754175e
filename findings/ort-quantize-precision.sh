#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  Since opset 23 QuantizeLinear has the attribute precision, the type in which x is divided by y_scale. It is
#            accepted and ignored: with float16 (10) the quotients are those of float32, where division of halves gives
#            others for a third of the numbers.
# Seen       40,000 numbers, precision absent and 10: equal everywhere; halves divided by numpy: thousands differ.
# For us     We divide in the type that the attribute names; such files are not compared with ONNX Runtime.
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

x = (np.arange(-20000, 20000) * np.float32(.013)).astype(np.float32)
scale = np.float32(.1)
init = [numpy_helper.from_array(np.array(scale), "s"), numpy_helper.from_array(np.array(0, np.int16), "z")]
got = []
for attributes in ({}, {"precision": TensorProto.FLOAT16}):
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)
    got.append(run([node], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [40000])],
                   helper.make_tensor_value_info("y", TensorProto.INT16, [40000]), init, {"x": x}, 23, 11))
halves = np.rint((x.astype(np.float16) / np.float16(scale)).astype(np.float32))
seen = int((got[0] != got[1]).sum()), int((got[1] != halves).sum())
print(seen)
raise SystemExit(seen[0] != 0 or seen[1] < 1000)
PY
