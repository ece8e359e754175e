#!/usr/bin/env bash
# Package    onnx 1.23.2 (PyPI), its reference evaluator.
# Behaviour  The evaluator has QuantizeLinear for every opset since 10, but DequantizeLinear from 19 on only. The quantised
#            files that tools write by default, opsets 13 to 18, cannot be evaluated, although onnx.checker takes them and
#            the operator has not changed for int8.
# Seen       opset 18: RuntimeError "No implementation for operator 'DequantizeLinear'"; opset 19: 0.5 1.0.
# For us     Our files of opset 17 cannot be held against it; ONNX Runtime without optimisations is the reference.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnx==1.23.2 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
seen = {}
for opset, ir in ((18, 8), (19, 9)):
    node = helper.make_node("DequantizeLinear", ["x", "s"], ["y"])
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.INT8, [2])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])], [numpy_helper.from_array(np.array(.5, np.float32), "s")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    checker.check_model(model)
    try:
        seen[opset] = ReferenceEvaluator(model).run(None, {"x": np.array([1, 2], np.int8)})[0].tolist()
    except RuntimeError as e:
        print(e)
        seen[opset] = "no implementation" if "No implementation for operator 'DequantizeLinear'" in str(e) else str(e)
print(seen)
raise SystemExit(seen != {18: "no implementation", 19: [0.5, 1.0]})
PY
