#!/usr/bin/env bash
# Package    onnx 1.23.2 (PyPI), its reference evaluator; onnxruntime 1.31.1 beside it.
# Behaviour  Attention can return the scores it is computed from. With qk_matmul_output_mode 0, the default, the operator's text
#            says that they are the output of the product of Q and K. With a softcap the reference evaluator returns
#            what mode 1 is for, the scores after it; the main output is right. The official tests, which are
#            made with the evaluator, have mode 0 only where there is no softcap.
# Seen       product 8.0; onnx.reference mode 0: 1.9987, mode 1: 1.9987; ONNX Runtime mode 0: 8.0, mode 1: 1.9987
# For us     ONNX Runtime and the text agree; Attention is held against them, not against the evaluator.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" -q install onnxruntime==1.31.1 onnx==1.23.2 numpy >&2 || exit 2
"$tmp/venv/bin/python" - <<'PY'
import numpy as np, onnxruntime as ort
from onnx import TensorProto, checker, helper
from onnx.reference import ReferenceEvaluator
seen = []
for mode in (0, 1):
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "scores"], scale=1.0, softcap=2.0, qk_matmul_output_mode=mode)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 1]) for n in "qkv"],
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 1]) for n in ("y", "scores")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    checker.check_model(model)
    feeds = {"q": np.full((1, 1, 1, 1), 4, np.float32), "k": np.full((1, 1, 1, 1), 2, np.float32), "v": np.ones((1, 1, 1, 1), np.float32)}
    for name, out in (("reference", ReferenceEvaluator(model).run(None, feeds)),
                      ("ONNX Runtime", ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds))):
        seen.append((name, mode, round(float(out[1].ravel()[0]), 4)))
print(seen)
raise SystemExit(seen != [("reference", 0, 1.9987), ("ONNX Runtime", 0, 8.0), ("reference", 1, 1.9987), ("ONNX Runtime", 1, 1.9987)])
PY
