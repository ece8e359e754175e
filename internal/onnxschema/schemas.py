"""Prints the facts of every version of every operator that the onnx package knows: make schemas.

A line "=N types" gives a set of types a number. Every other line is an operator:

    name since|attributes|inputs|outputs|variables

An attribute is name:KIND, then "!" if it is required or =default if it has one. Inputs and
outputs begin with how many there are at least, "" among them; each is the name of a type
variable or a type, then "?" if it may be absent, "*" if it repeats with one type, "+" if each
may have its own. A variable is name=N. A deprecated version ends in "|gone".
"""
import sys
import onnx
from onnx import defs

ELEMS = {"float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16", "bool": "bool", "string": "string",
         "complex64": "c64", "complex128": "c128"}
ELEMS.update({f"{u}int{b}": f"{'u' if u else 'i'}{b}" for u in ("", "u") for b in (2, 4, 8, 16, 32, 64)})


def elem(text):
    """tensor(float) is f32; others keep their name: seq(tensor(float)) is seq(f32)."""
    for long in sorted(ELEMS, key=len, reverse=True):
        text = text.replace(f"tensor({long})", ELEMS[long])
    return text.replace("tensor(", "").replace(")", "", 1) if text.startswith("tensor(") else text


def attribute(a):
    text = f"{a.name}:{a.type.name}"
    if a.required:
        return text + "!"
    if a.default_value.type:
        value = onnx.helper.get_attribute_value(a.default_value)
        items = value if isinstance(value, list) else [value]
        said = ",".join(i.decode() if isinstance(i, bytes) else repr(i) for i in items)
        assert not set(said) & set(" |=!"), said
        text += "=" + said
    return text


def ports(list, least):
    marks = lambda p: {"Single": "", "Optional": "?", "Variadic": "*" if p.is_homogeneous else "+"}[p.option.name]
    return " ".join([str(least)] + [elem(p.type_str) + marks(p) for p in list])


def main():
    sets, lines = {}, []
    for s in sorted(defs.get_all_schemas_with_history(), key=lambda s: (s.name, s.since_version)):
        if s.domain:
            continue
        variables = []
        for t in s.type_constraints:
            types = " ".join(sorted(elem(x) for x in t.allowed_type_strs))
            variables.append(f"{t.type_param_str}={sets.setdefault(types, len(sets))}")
        lines.append("|".join([
            f"{s.name} {s.since_version}",
            " ".join(attribute(s.attributes[a]) for a in sorted(s.attributes)),
            ports(s.inputs, s.min_input),
            ports(s.outputs, s.min_output),
            " ".join(variables),
        ]) + ("|gone" if s.deprecated else ""))
    print(f"# From onnx {onnx.__version__}, opset {defs.onnx_opset_version()}, by schemas.py.")
    for types, n in sets.items():
        print(f"={n} {types}")
    print("\n".join(lines))


sys.exit(main())
