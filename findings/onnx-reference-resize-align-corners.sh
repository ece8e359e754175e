#!/usr/bin/env bash
# Package    onnx 1.22.0 (PyPI), its reference evaluator; onnxruntime 1.31.1 beside it.
# Behaviour  Resize with align_corners maps the last output element to the last input element: x_resized * (length_original
#            - 1) / (length_resized - 1). Where scales are given and length * scale is not whole, the reference evaluator
#            divides by the fractional length minus 1, so that the corners are not aligned: 4 elements times 1.7 become 6,
#            and it uses 6.8.
# Seen       1 2 3 4 resized by 1.7: ONNX Runtime 1 1.6 2.2 2.8 3.4 4, onnx.reference 1 1.5172 2.0345 2.5517 3.069 3.5862.
# For us     Tests made with the evaluator cannot find this; ours are held against the text and ONNX Runtime.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")
graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 6])],
                          [numpy_helper.from_array(np.array([1, 1, 1, 1.7], np.float32), "scales")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
checker.check_model(model)
x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)
seen = [r.run(None, {"x": x})[0].ravel().round(4).tolist() for r in
        (ReferenceEvaluator(model), ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))]
print(seen)
want = [[1, 1.5172, 2.0345, 2.5517, 3.069, 3.5862], [1, 1.6, 2.2, 2.8, 3.4, 4]]
raise SystemExit(not np.allclose(seen, want, atol=1e-3))
PY
