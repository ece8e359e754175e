"""Runs ONNX models on ONNX Runtime's Python package: python serve.py

Each line on standard input is {"model": FILE, "inputs": NPZ, "outputs": [NPZ, NPZ]}: the model is run
on the arrays of the first npz with no optimisations and with all, and the outputs of each
are written. It is answered by a line {"version": V, "errors": [E, E]}, "" where all went well.
"""
import json
import sys

import numpy as np
import onnxruntime as ort

LEVELS = [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL]


def run(model, inputs, output, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results = session.run(None, dict(inputs))
    np.savez(output, **{o.name: r for o, r in zip(session.get_outputs(), results)})


for line in sys.stdin:
    job = json.loads(line)
    errors = []
    for level, output in zip(LEVELS, job["outputs"]):
        try:
            run(job["model"], np.load(job["inputs"]), output, level)
            errors.append("")
        except Exception as e:
            errors.append(str(e) or type(e).__name__)
    print(json.dumps({"version": ort.__version__, "errors": errors}), flush=True)
