"""Pieces of ONNX text that both definitions are made of."""

from __future__ import annotations

from onnx import TensorProto

from export.operators import DOMAIN, VERSION


def wide(element: int) -> int:
    """The type in which sums of `element` are made: fp32 for fp16, else `element` itself."""
    return TensorProto.FLOAT if element == TensorProto.FLOAT16 else element


def cast(result: str, value: str, have: int, want: int) -> str:
    """result = value of type `have` in type `want`. Between equal types no operator is left after tidying."""
    operator = "Identity" if have == want else f"Cast <to = {want}>"
    return f"""
        {result} = {operator} ({value})"""


def header(operator: str, attributes: list[str], inputs: list[str]) -> str:
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : 19, "{DOMAIN}" : {VERSION}]>\n'
        f"{operator} <{', '.join(attributes)}> ({', '.join(inputs)}) => (y)\n"
    )


def ints(*values: int) -> str:
    return "Constant <value_ints: ints = [" + ", ".join(map(str, values)) + "]> ()"


def modulo(result: str, value: str, divisor: str) -> str:
    """result = value modulo divisor for floats, in [0, divisor)."""
    return f"""
        {result}_turns = Div ({value}, {divisor})
        {result}_whole = Floor ({result}_turns)
        {result}_past = Mul ({result}_whole, {divisor})
        {result} = Sub ({value}, {result}_past)"""


def inside(result: str, value: str, last: str) -> str:
    """result = value clipped to [0, last]; result_inside = 1.0 where that changed nothing, else 0.0."""
    return f"""
        {result}_low = Relu ({value})
        {result} = Min ({result}_low, {last})
        {result}_same = Equal ({result}, {value})
        {result}_inside = Cast <to = 1> ({result}_same)"""


def bilinear_corners(element: int, rows: str, count: str, member: str) -> str:
    """samples = the bilinear mean of the four pixels around each position, rounded to `element` once.

    element: the data type (TensorProto.DataType). rows: the image as a matrix, `count` rows a pixel, of which `member`
    is wanted (an offset group, a head). Read from the context: r0_i, r1_i, c0_i, c1_i (int64 rows and columns); b0, b1,
    a0, a1 (their fp32 weights); width; image_start (the first pixel of each batch entry); rest (the int64 [-1]).
    """
    sum_type = wide(element)
    corners = "".join(
        f"""
        place_{r}{c}_row = Mul (r{r}_i, width)
        place_{r}{c}_at = Add (place_{r}{c}_row, c{c}_i)
        place_{r}{c}_in = Add (place_{r}{c}_at, image_start)
        place_{r}{c}_first = Mul (place_{r}{c}_in, {count})
        place_{r}{c} = Add (place_{r}{c}_first, {member})
        pixels_{r}{c}_t = Gather <axis = 0> ({rows}, place_{r}{c})
        weight_{r}{c}_f = Mul (b{r}, a{c})
        weight_{r}{c}_u = Unsqueeze (weight_{r}{c}_f, rest)"""
        + cast(f"pixels_{r}{c}", f"pixels_{r}{c}_t", element, sum_type)
        + cast(f"weight_{r}{c}", f"weight_{r}{c}_u", TensorProto.FLOAT, sum_type)
        + f"""
        part_{r}{c} = Mul (pixels_{r}{c}, weight_{r}{c})"""
        for r in (0, 1)
        for c in (0, 1)
    )
    return (
        corners
        + """
        upper = Add (part_00, part_01)
        lower = Add (part_10, part_11)
        samples_sum = Add (upper, lower)"""
        + cast("samples", "samples_sum", sum_type, element)
    )
