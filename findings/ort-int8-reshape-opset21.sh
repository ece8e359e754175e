#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU; onnx 1.22.0 makes the model.
# Behaviour  Signed 8-bit numbers that are dequantised, reshaped and used as floats: the default session puts quantisers
#            around the Reshape and then turns int8 into uint8, but leaves the attribute output_dtype of the QuantizeLinear
#            that it made, which exists from opset 21 on. It refuses its own graph. The same model with opset 17 runs, and
#            so does this one without optimisations.
# Seen       opset 17: runs at both levels; opset 21: runs without optimisations, with them "output_dtype INT8 does not
#            match y_zero_point type UINT8".
# For us     From opset 21 on (int4 weights) a signed tensor gets a quantiser behind the operator that moves it too.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

def run(model, feeds, level):
    o = ort.SessionOptions()
    o.graph_optimization_level, o.log_severity_level = level, 4
    return ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, feeds)[0]

seen = {}
for opset, ir in ((17, 8), (21, 10)):
    init = [numpy_helper.from_array(np.array(v), n) for n, v in {"s": np.float32(.1), "z": np.int8(0), "shape": np.array([-1], np.int64)}.items()]
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
             helper.make_node("Reshape", ["d", "shape"], ["r"]), helper.make_node("Sigmoid", ["r"], ["o"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
                              [helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    checker.check_model(model)
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        try:
            answer = str(run(model, {"x": np.ones((2, 2), np.float32)}, level).shape)
        except Exception as e:
            print(e)
            answer = "output_dtype" if "output_dtype INT8 does not match y_zero_point type UINT8" in str(e) else str(e)
        seen[opset, level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL] = answer
print(seen)
raise SystemExit(seen != {(17, False): "(4,)", (17, True): "(4,)", (21, False): "(4,)", (21, True): "output_dtype"})
PY
