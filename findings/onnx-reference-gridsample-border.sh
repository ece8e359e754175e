#!/usr/bin/env bash
# Package    onnx 1.22.0 (PyPI), its reference evaluator; onnxruntime 1.31.1 beside it.
# Behaviour  GridSample, cubic, padding_mode border, at a point outside of the image. The border mode gives pixels outside
#            the value of the nearest one at the border; the point stays where it is and its 4x4 neighbours are clamped.
#            The reference evaluator moves the point to the border first, so that everything outside is constant. PyTorch,
#            whose operator this is, and ONNX Runtime agree.
# Seen       pixels 0 to 24 in rows of 5, point (1.3, 1.3) with aligned corners: ONNX Runtime 24.432, onnx.reference 24.0.
# For us     Ours follows ONNX Runtime and PyTorch.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.22.0 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode="cubic", padding_mode="border", align_corners=1)
graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5]),
                                        helper.make_tensor_value_info("grid", TensorProto.FLOAT, [1, 1, 1, 2])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
checker.check_model(model)
feeds = {"x": np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5), "grid": np.full((1, 1, 1, 2), 1.3, np.float32)}
seen = [round(float(r.run(None, feeds)[0].ravel()[0]), 3) for r in
        (ReferenceEvaluator(model), ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))]
print(seen)
raise SystemExit(seen != [24.0, 24.432])
PY
