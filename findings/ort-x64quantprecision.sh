#!/usr/bin/env bash
# Package    onnxruntime 1.31.1 (PyPI), CPU, x86-64; onnx 1.22.0 makes the model.
# Behaviour  On processors without VNNI the optimised products of 8-bit integers saturate; the session option
#            session.x64quantprecision=1 is there to prevent that, by turning int8 weights into uint8. It gives each weight a
#            scalar zero point. DequantizeLinear per channel needs one of the scale's shape, so such a node without a
#            zero point (it is optional, 0) fails when the session runs, unless it vanishes in a fused operator. ConvTranspose
#            has no fused form.
# Seen       option 0: (1, 2, 2, 2); option 1: "Non-zero status code returned while running DequantizeLinear"
# For us     The option is no way out for files with weights per channel and two-input DequantizeLinear; weights of 7 bits are.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
init = [numpy_helper.from_array(a, n) for n, a in {
    "w": np.full((1, 2, 1, 1), 100, np.int8), "ws": np.array([.01, .02], np.float32),
    "s": np.array(.02, np.float32), "z": np.array(0, np.uint8)}.items()]
nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
         helper.make_node("DequantizeLinear", ["w", "ws"], ["v"], axis=1), helper.make_node("ConvTranspose", ["d", "v"], ["c"]),
         helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]), helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"])]
graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2, 2])], init)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model)
seen = []
for option in ("0", "1"):
    o = ort.SessionOptions()
    o.log_severity_level = 4
    o.add_session_config_entry("session.x64quantprecision", option)
    try:
        y = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})
        seen.append(str(y[0].shape))
    except Exception as e:
        print(str(e)[:300])
        seen.append("DequantizeLinear" if "running DequantizeLinear" in str(e) else str(e))
print(seen)
raise SystemExit(seen != ["(1, 2, 2, 2)", "DequantizeLinear"])
PY
