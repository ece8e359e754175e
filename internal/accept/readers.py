"""Loads files of thriftc in the programs that read them: readers.py READER files.json

Prints a JSON line about the reader, and one a file: whether it was taken, and the largest
difference from thriftc's results as a part of the largest result ("=" for none), or the
message. Each reader does what its own documentation does with such a file.
"""
import collections
import io
import json
import os
import shutil
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout

import numpy as np


def version(*packages):
    from importlib.metadata import version as of

    return ", ".join(f"{p} {of(p)}" for p in packages)


def difference(got, want, tolerance):
    """The verdict on a result: text, and whether it is near enough."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}", False
    if np.array_equal(got, want):
        return "=", True
    far = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))
    return f"{far:.1g}", far <= tolerance


def checker(f, x, y):
    import onnx

    onnx.checker.check_model(onnx.load(f["model"]), full_check=True)
    return "=", True


# One step of an 8-bit value is 1/255 of its range, and a sum in another order may
# move some results by one.
STEP = 1.5 / 128


def ort(f, x, y):
    """All four levels of optimisation, each as by default and with sums of 8-bit products that do not saturate."""
    import onnxruntime as rt

    worst = "=", True
    for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL"):
        for precise in (False, True):
            options = rt.SessionOptions()
            options.graph_optimization_level = getattr(rt.GraphOptimizationLevel, "ORT_" + level)
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            if precise:
                options.add_session_config_entry("session.x64quantprecision", "1")
            s = rt.InferenceSession(f["model"], options, providers=["CPUExecutionProvider"])
            got = s.run(None, {s.get_inputs()[0].name: x})[0]
            text, ok = difference(got, y, 1e-6 if level == "DISABLE_ALL" else STEP)
            if precise and (not ok or worst[0] == "="):
                worst = text, ok
            if not worst[1]:
                return f"{level}: {worst[0]}", False
    return worst


def wrapped(f, x):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    model = ModelWrapper(f["model"])
    model.set_tensor_shape(model.graph.input[0].name, list(x.shape))
    return cleanup_model(model)


def execute(model, x):
    from qonnx.core.onnx_exec import execute_onnx

    return execute_onnx(model, {model.graph.input[0].name: x})[model.graph.output[0].name]


def qonnx(f, x, y):
    """cleanup and execution; conversion from qcdq; biases taken out of convolutions."""
    from qonnx.transformation.extract_conv_bias import ExtractBiasFromConv
    from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

    model = wrapped(f, x)
    text, ok = difference(execute(model, x), y, 1e-5)
    if f["format"] == "qcdq":
        model = model.transform(QCDQToQuant())
        left = collections.Counter(n.op_type for n in model.graph.node)
        if left["QuantizeLinear"]:
            return "QuantizeLinear is left by QCDQToQuant", False
        # Its biases have scalar zero points, with which ExtractBiasFromConv cannot deal.
        again, fine = difference(execute(model, x), y, 1e-5)
        return (text, ok) if not ok else (again, fine)
    model = model.transform(ExtractBiasFromConv())
    if any(n.op_type == "Conv" and len(n.input) > 2 for n in model.graph.node):
        return "a bias is left by ExtractBiasFromConv", False
    again, fine = difference(execute(model, x), y, 1e-5)
    return (text, ok) if not ok else (again, fine)


def hls4ml(f, x, y):
    """Compiled by g++; with power-of-two scales the results are to be equal."""
    import hls4ml as h
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul

    model = wrapped(f, x)
    if x.ndim == 4:
        model = model.transform(ConvertToChannelsLastAndClean())
    model = model.transform(GemmToMatMul())
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(model)
    config = h.utils.config_from_onnx_model(model, granularity="name", backend="Vitis", default_precision="fixed<32,16>")
    for name, layer in config["LayerName"].items():
        if name == model.graph.input[0].name:
            # By default fixed<16,6>, which wraps.
            layer["Precision"] = {"result": "fixed<24,12,RND_CONV,SAT>"}
    name = "prj"
    shutil.rmtree(name, ignore_errors=True)
    hls = h.converters.convert_from_onnx_model(model, output_dir=name, io_type="io_parallel", backend="Vitis", hls_config=config)
    hls.compile()
    feed = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    got = hls.predict(np.ascontiguousarray(feed)).reshape(y.shape)
    return difference(got, y, 0)


def finn(f, x, y):
    """ConvertQONNXtoFINN and the streamlining of its own flow; the results are those of FINN's execution."""
    from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
    from finn.transformation.streamline import Streamline
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes

    model = wrapped(f, x)
    model = model.transform(GemmToMatMul())
    model = model.transform(InferShapes())
    model = model.transform(ConvertQONNXtoFINN())
    if any(n.op_type == "Quant" for n in model.graph.node):
        return "Quant is left", False
    text, ok = difference(execute(model, x), y, STEP)
    if not ok:
        return text, ok
    model = model.transform(Streamline()).transform(InferDataTypes())
    return difference(execute(model, x), y, STEP)


def run_ort(model, x):
    import onnxruntime as rt

    options = rt.SessionOptions()
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    s = rt.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return s.run(None, {s.get_inputs()[0].name: x})[0]


def onnxsim(f, x, y):
    import onnx
    import onnxsim as s

    model, ok = s.simplify(onnx.load(f["model"]))
    if not ok:
        return "onnxsim's own check fails", False
    return difference(run_ort(model, x), y, 1e-6)


def onnxslim(f, x, y):
    import onnx
    import onnxslim as s

    return difference(run_ort(s.slim(onnx.load(f["model"])), x), y, 1e-6)


def openvino(f, x, y):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(f["model"])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return difference(compiled([x])[0], y, 3 * STEP)  # its int8 kernels round between layers, too


def tract(f, x, y):
    import tract as t

    model = t.onnx().load(f["model"])
    got = model.into_model().into_runnable().run([x])[0].to_numpy()
    return difference(got, y, STEP)


everything = lambda f: True
standard = lambda f: f["format"] != "qonnx"
READERS = {
    "checker": (checker, everything, ["onnx"]),
    "onnxruntime": (ort, standard, ["onnxruntime"]),
    "qonnx": (qonnx, lambda f: f["format"] != "qdq", ["qonnx", "onnx", "onnxruntime"]),
    # Of convolutions hls4ml's results are not ours yet; g++ takes minutes for each.
    "hls4ml": (hls4ml, lambda f: f["format"] == "qonnx" and f["pow2"] and f["name"].startswith("mlp,"), ["hls4ml", "qonnx"]),
    "finn-plus": (finn, lambda f: f["format"] == "qonnx", ["finn-plus", "qonnx", "onnx"]),
    "onnxsim": (onnxsim, standard, ["onnxsim", "onnx"]),
    "onnxslim": (onnxslim, standard, ["onnxslim", "onnx"]),
    "openvino": (openvino, standard, ["openvino"]),
    "tract": (tract, standard, ["tract"]),
}


def main(name, files):
    read, wanted, packages = READERS[name]
    out = os.fdopen(os.dup(1), "w")  # readers and what they start print to 1
    os.dup2(2, 1)
    print(json.dumps({"about": version(*packages)}), file=out)
    for f in json.load(open(files)):
        if not wanted(f):
            continue
        sample = np.load(f["input"])
        noise = io.StringIO()
        try:
            with redirect_stdout(noise), redirect_stderr(noise):
                detail, ok = read(f, sample["x"], sample["y"])
        except Exception as e:  # whatever a reader throws is its answer
            ok, detail = False, f"{type(e).__name__}: {e}"[:500]
            if os.environ.get("ACCEPT_TRACE"):
                traceback.print_exc()
        print(json.dumps({"name": f["name"], "ok": bool(ok), "detail": detail}), file=out, flush=True)


main(*sys.argv[1:])
