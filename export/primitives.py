"""What each deformable operator means in elementary ONNX operators, as ONNX functions.

A function is written for the attributes of one kind of node (kernel, wrap, window, ...). Bilinear samples are gathered:
GridSample is read differently by TensorRT's parser from opset 20 on, miscompiled by TensorRT >= 10.14 inside decomposed
deformable attention, and would round normalised coordinates in fp16. Integer arithmetic avoids Mod: a - a / b * b.
Coordinates are float whatever the data type; the layout is channels-last while sampling, so that each gathered row is
one contiguous pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import FunctionProto, NodeProto, parser

from export.operators import DEFORM_CONV_2D, DOMAIN, DST_ATTENTION, VERSION


@dataclass(frozen=True)
class Kind:
    """What tells two nodes of one operator apart in their primitive form."""

    operator: str
    values: tuple[tuple[str, int], ...]

    @property
    def overload(self) -> str:
        return "_".join(f"{name}{value}" for name, value in self.values)


def kind_of(node: NodeProto, kernel: int, offset_channels: int) -> Kind:
    """The kind of a DeformConv2d (kernel side and offset channels of its inputs) or DSTAttention node."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == DEFORM_CONV_2D.name:
        groups = offset_channels // (2 * kernel * kernel)
        masked = int(len(node.input) > 4)
        values = {"kernel": kernel, "groups": groups, "masked": masked, "wrap": int(attributes["wrap"])}
    else:
        values = {name: int(attributes[name]) for name in ("heads", "window", "shift", "wrap")}
        values["deform"] = int(len(node.input) > 4)
    return Kind(node.op_type, tuple(values.items()))


def primitive(kind: Kind, opset: int) -> FunctionProto:
    """The definition of nodes of this kind. Inputs and outputs are those of the operator's schema.

    opset: of the model; the operators used are the same from 19 to 22.
    """
    values = dict(kind.values)
    text = _deform_conv_2d(**values) if kind.operator == DEFORM_CONV_2D.name else _dst_attention(**values)
    function = parser.parse_function(text)
    function.overload = kind.overload
    function.opset_import[0].version = opset
    return function


def _header(operator: str, attributes: list[str], inputs: list[str]) -> str:
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : 19, "{DOMAIN}" : {VERSION}]>\n'
        f"{operator} <{', '.join(attributes)}> ({', '.join(inputs)}) => (y)\n"
    )


def _ints(*values: int) -> str:
    return "Constant <value_ints: ints = [" + ", ".join(map(str, values)) + "]> ()"


def _modulo(result: str, value: str, divisor: str) -> str:
    """result = value modulo divisor for floats, in [0, divisor)."""
    return f"""
        {result}_turns = Div ({value}, {divisor})
        {result}_whole = Floor ({result}_turns)
        {result}_past = Mul ({result}_whole, {divisor})
        {result} = Sub ({value}, {result}_past)"""


# ---- deformable convolution -----------------------------------------------------------------------------------------


def _deform_conv_2d(kernel: int, groups: int, masked: int, wrap: int) -> str:
    taps, radius = kernel * kernel, kernel // 2
    reach = [t // kernel - radius for t in range(taps)], [t % kernel - radius for t in range(taps)]
    tap_row, tap_column = (", ".join(f"{float(v):.1f}" for v in values) for values in reach)
    column = (
        _modulo("c0", "column_floor", "width_f")
        + """
        column_next = Add (c0, one)"""
        + _modulo("c1", "column_next", "width_f")
        + """
        a0 = Sub (one, column_part)
        a1 = Identity (column_part)"""
        if wrap
        else """
        column_next = Add (column_floor, one)"""
        + _inside("c0", "column_floor", "width_last")
        + _inside("c1", "column_next", "width_last")
        + """
        a0_free = Sub (one, column_part)
        a0 = Mul (a0_free, c0_inside)
        a1 = Mul (column_part, c1_inside)"""
    )
    mask = (
        f"""
        mask_shape_tail = {_ints(groups, taps)}
        mask_shape = Concat <axis = 0> (batch, mask_shape_tail, height, width)
        mask_BGTHW = Reshape (mask, mask_shape)
        mask_BHWGT = Transpose <perm = [0, 3, 4, 1, 2]> (mask_BGTHW)
        mask_f = Cast <to = 1> (mask_BHWGT)
        b0 = Mul (b0_plain, mask_f)
        b1 = Mul (b1_plain, mask_f)"""
        if masked
        else """
        b0 = Identity (b0_plain)
        b1 = Identity (b1_plain)"""
    )
    corners = "".join(
        f"""
        place_{r}{c}_row = Mul (r{r}_i, width)
        place_{r}{c}_at = Add (place_{r}{c}_row, c{c}_i)
        place_{r}{c}_in = Add (place_{r}{c}_at, image_start)
        place_{r}{c}_group = Mul (place_{r}{c}_in, groups)
        place_{r}{c} = Add (place_{r}{c}_group, group)
        pixels_{r}{c} = Gather <axis = 0> (rows, place_{r}{c})
        weight_{r}{c}_f = Mul (b{r}, a{c})
        weight_{r}{c}_t = CastLike (weight_{r}{c}_f, x)
        weight_{r}{c} = Unsqueeze (weight_{r}{c}_t, last)
        part_{r}{c} = Mul (pixels_{r}{c}, weight_{r}{c})"""
        for r in (0, 1)
        for c in (0, 1)
    )
    inputs = ["x", "offset", "weight", "bias"] + (["mask"] if masked else [])
    attributes = ["max_offset", "wrap", "plugin_namespace", "plugin_version"]
    return (
        _header(DEFORM_CONV_2D.name, attributes, inputs)
        + f"""{{
        zero_i = {_ints(0)}
        one_i = {_ints(1)}
        last = {_ints(-1)}
        rest = {_ints(-1)}
        one = Constant <value_floats: floats = [1.0]> ()
        groups = {_ints(groups)}
        taps_and_pair = {_ints(groups, taps, 2)}
        shape = Shape (x)
        batch, channels, height, width = Split <axis = 0, num_outputs = 4> (shape)
        depth = Div (channels, groups)
        height_f = Cast <to = 1> (height)
        width_f = Cast <to = 1> (width)
        height_last = Sub (height_f, one)
        width_last = Sub (width_f, one)

        x_BHWC = Transpose <perm = [0, 2, 3, 1]> (x)
        rows_shape = Concat <axis = 0> (rest, depth)
        rows = Reshape (x_BHWC, rows_shape)

        offset_shape = Concat <axis = 0> (batch, taps_and_pair, height, width)
        offset_BGT2HW = Reshape (offset, offset_shape)
        offset_2BHWGT = Transpose <perm = [3, 0, 4, 5, 1, 2]> (offset_BGT2HW)
        offset_f = Cast <to = 1> (offset_2BHWGT)
        pair_row, pair_column = Split <axis = 0, num_outputs = 2> (offset_f)
        offset_row = Squeeze (pair_row, zero_i)
        offset_column = Squeeze (pair_column, zero_i)

        zero_s = Squeeze (zero_i)
        one_s = Squeeze (one_i)
        height_s = Squeeze (height)
        width_s = Squeeze (width)
        batch_s = Squeeze (batch)
        row_range = Range (zero_s, height_s, one_s)
        row_range_f = Cast <to = 1> (row_range)
        row_shape = {_ints(-1, 1, 1, 1)}
        row_grid = Reshape (row_range_f, row_shape)
        column_range = Range (zero_s, width_s, one_s)
        column_range_f = Cast <to = 1> (column_range)
        column_shape = {_ints(-1, 1, 1)}
        column_grid = Reshape (column_range_f, column_shape)
        tap_row = Constant <value_floats: floats = [{tap_row}]> ()
        tap_column = Constant <value_floats: floats = [{tap_column}]> ()
        row_base = Add (row_grid, tap_row)
        column_base = Add (column_grid, tap_column)
        row = Add (offset_row, row_base)
        column = Add (offset_column, column_base)

        row_floor = Floor (row)
        row_part = Sub (row, row_floor)
        row_next = Add (row_floor, one)"""
        + _inside("r0", "row_floor", "height_last")
        + _inside("r1", "row_next", "height_last")
        + """
        b0_free = Sub (one, row_part)
        b0_plain = Mul (b0_free, r0_inside)
        b1_plain = Mul (row_part, r1_inside)
        column_floor = Floor (column)
        column_part = Sub (column, column_floor)"""
        + column
        + mask
        + f"""
        r0_i = Cast <to = 7> (r0)
        r1_i = Cast <to = 7> (r1)
        c0_i = Cast <to = 7> (c0)
        c1_i = Cast <to = 7> (c1)
        image_range = Range (zero_s, batch_s, one_s)
        image_size = Mul (height, width)
        image_first = Mul (image_range, image_size)
        image_shape = {_ints(-1, 1, 1, 1, 1)}
        image_start = Reshape (image_first, image_shape)
        group_values = {_ints(*range(groups))}
        group_shape = {_ints(-1, 1)}
        group = Reshape (group_values, group_shape)"""
        + corners
        + f"""
        upper = Add (part_00, part_01)
        lower = Add (part_10, part_11)
        samples = Add (upper, lower)
        matrix_rows = {_ints(groups * taps)}
        matrix_columns = Mul (depth, matrix_rows)
        columns_shape = Concat <axis = 0> (batch, height, width, matrix_columns)
        columns = Reshape (samples, columns_shape)
        weight_split = {_ints(0, groups, -1, taps)}
        weight_OGCT = Reshape (weight, weight_split)
        weight_GTCO = Transpose <perm = [1, 3, 2, 0]> (weight_OGCT)
        weight_count = Shape <start = 0, end = 1> (weight)
        matrix_shape = Concat <axis = 0> (matrix_columns, weight_count)
        matrix = Reshape (weight_GTCO, matrix_shape)
        product = MatMul (columns, matrix)
        biased = Add (product, bias)
        y = Transpose <perm = [0, 3, 1, 2]> (biased)
        }}"""
    )


def _inside(result: str, value: str, last: str) -> str:
    """result = value clipped to [0, last]; result_inside = 1.0 where that changed nothing, else 0.0."""
    return f"""
        {result}_low = Relu ({value})
        {result} = Min ({result}_low, {last})
        {result}_same = Equal ({result}, {value})
        {result}_inside = Cast <to = 1> ({result}_same)"""


# ---- DST attention --------------------------------------------------------------------------------------------------


def _dst_attention(heads: int, window: int, shift: int, wrap: int, deform: int) -> str:
    inputs = ["q", "k", "v", "bias"] + (["scale", "offset"] if deform else [])
    attributes = ["heads", "window", "shift", "wrap", "plugin_namespace", "plugin_version"]
    return (
        _header(DST_ATTENTION.name, attributes, inputs)
        + f"""{{
        zero_i = {_ints(0)}
        one_i = {_ints(1)}
        two_i = {_ints(2)}
        rest = {_ints(-1)}
        one = Constant <value_floats: floats = [1.0]> ()
        window = {_ints(window)}
        heads = {_ints(heads)}
        area = {_ints(window * window)}
        shift = {_ints(shift)}
        zero_s = Squeeze (zero_i)
        one_s = Squeeze (one_i)
        shape = Shape (q)
        batch, channels, height, width = Split <axis = 0, num_outputs = 4> (shape)
        depth = Div (channels, heads)
        almost = {_ints(window - 1)}"""
        + _axis("row", "height", 0)
        + _axis("column", "width", wrap)
        + _windows("k")
        + _windows("v")
        + (_deformed_queries(window, wrap) if deform else _windows("q"))
        + """
        k_turned = Transpose <perm = [0, 1, 3, 2]> (k_windows)
        products = MatMul (q_windows, k_turned)
        depth_f = CastLike (depth, q)
        depth_root = Sqrt (depth_f)
        factor = Reciprocal (depth_root)
        scores_plain = Mul (products, factor)
        scores_biased = Add (scores_plain, bias)"""
        + (_masked(wrap) if shift else "\n        scores = Identity (scores_biased)")
        + """
        attention = Softmax <axis = -1> (scores)
        attended = MatMul (attention, v_windows)
        attended_shape = Concat <axis = 0> (batch, row_windows, column_windows, heads, window, window, depth)
        attended_7 = Reshape (attended, attended_shape)
        attended_BCHW = Transpose <perm = [0, 3, 6, 1, 4, 2, 5]> (attended_7)
        padded_shape = Concat <axis = 0> (batch, channels, row_padded, column_padded)
        padded = Reshape (attended_BCHW, padded_shape)
        rows_back = Gather <axis = 2> (padded, row_back)
        y = Gather <axis = 3> (rows_back, column_back)
        }"""
    )


def _axis(name: str, size: str, wrap: int) -> str:
    """Along one axis: source pixels of the displaced windows, their region, and the way back."""
    source = (
        f"""
        {name}_circles = Div ({name}_turned, {size})
        {name}_circled = Mul ({name}_circles, {size})
        {name}_source = Sub ({name}_turned, {name}_circled)"""
        if wrap
        else f"""
        {name}_final = Sub ({size}, one_i)
        {name}_source = Min ({name}_turned, {name}_final)"""
    )
    return (
        f"""
        {name}_up = Add ({size}, almost)
        {name}_windows = Div ({name}_up, window)
        {name}_padded = Mul ({name}_windows, window)
        {name}_padded_s = Squeeze ({name}_padded)
        {name}_range = Range (zero_s, {name}_padded_s, one_s)
        {name}_displaced = Add ({name}_range, shift)
        {name}_region = Div ({name}_displaced, {name}_padded)
        {name}_over = Mul ({name}_region, {name}_padded)
        {name}_turned = Sub ({name}_displaced, {name}_over)"""
        + source
        + f"""
        {size}_s = Squeeze ({size})
        {name}_out = Range (zero_s, {size}_s, one_s)
        {name}_out_less = Sub ({name}_out, shift)
        {name}_out_more = Add ({name}_out_less, {name}_padded)
        {name}_out_turns = Div ({name}_out_more, {name}_padded)
        {name}_out_over = Mul ({name}_out_turns, {name}_padded)
        {name}_back = Sub ({name}_out_more, {name}_out_over)"""
    )


def _windows(name: str) -> str:
    """{name}_windows: (B*windows, heads, window^2, d) of {name} (B,C,H,W)."""
    return f"""
        {name}_rows = Gather <axis = 2> ({name}, row_source)
        {name}_both = Gather <axis = 3> ({name}_rows, column_source)
        {name}_split = Concat <axis = 0> (batch, heads, depth, row_windows, window, column_windows, window)
        {name}_7 = Reshape ({name}_both, {name}_split)
        {name}_turned_7 = Transpose <perm = [0, 3, 5, 1, 4, 6, 2]> ({name}_7)
        {name}_shape = Concat <axis = 0> (rest, heads, area, depth)
        {name}_windows = Reshape ({name}_turned_7, {name}_shape)"""


def _masked(wrap: int) -> str:
    column = "" if wrap else "\n        column_region_shape = Concat <axis = 0> (one_i, column_windows, one_i, window)"
    joined = (
        """
        region_window = Expand (row_region_4, region_size)"""
        if wrap
        else f"""{column}
        column_region_4 = Reshape (column_region, column_region_shape)
        row_region_twice = Mul (row_region_4, two_i)
        region_window = Add (row_region_twice, column_region_4)"""
    )
    return f"""
        row_region_shape = Concat <axis = 0> (row_windows, one_i, window, one_i)
        row_region_4 = Reshape (row_region, row_region_shape)
        region_size = Concat <axis = 0> (row_windows, column_windows, window, window){joined}
        region_query_shape = Concat <axis = 0> (one_i, rest, one_i, area, one_i)
        region_key_shape = Concat <axis = 0> (one_i, rest, one_i, one_i, area)
        region_query = Reshape (region_window, region_query_shape)
        region_key = Reshape (region_window, region_key_shape)
        region_equal = Equal (region_query, region_key)
        region_apart = Not (region_equal)
        region_apart_t = CastLike (region_apart, q)
        blocked_value = Constant <value_floats: floats = [-100.0]> ()
        blocked_t = CastLike (blocked_value, q)
        blocked = Mul (region_apart_t, blocked_t)
        window_count = Mul (row_windows, column_windows)
        scores_split = Concat <axis = 0> (batch, window_count, heads, area, area)
        scores_5 = Reshape (scores_biased, scores_split)
        scores_masked = Add (scores_5, blocked)
        scores_joined = Concat <axis = 0> (rest, heads, area, area)
        scores = Reshape (scores_masked, scores_joined)"""


def _deformed_queries(window: int, wrap: int) -> str:
    """q_windows, sampled at the scaled and shifted points. Positions are (B, windows down, across, heads, i, j)."""
    base = ", ".join(f"{i - (window - 1) / 2:.1f}" for i in range(window))
    column = (
        _modulo("c0", "column_floor", "width_f")
        + """
        column_next = Add (c0, one)"""
        + _modulo("c1", "column_next", "width_f")
        if wrap
        else """
        c0 = Identity (column_floor)
        column_next = Add (c0, one)
        c1 = Min (column_next, width_last)"""
    )
    limit = (
        "column = Identity (column_free)"
        if wrap
        else "column_low = Relu (column_free)\n        column = Min (column_low, width_last)"
    )
    corners = "".join(
        f"""
        place_{r}{c}_row = Mul (r{r}_i, width)
        place_{r}{c}_at = Add (place_{r}{c}_row, c{c}_i)
        place_{r}{c}_in = Add (place_{r}{c}_at, image_start)
        place_{r}{c}_head = Mul (place_{r}{c}_in, heads)
        place_{r}{c} = Add (place_{r}{c}_head, head)
        pixels_{r}{c} = Gather <axis = 0> (query_rows, place_{r}{c})
        weight_{r}{c}_f = Mul (b{r}, a{c})
        weight_{r}{c}_t = CastLike (weight_{r}{c}_f, q)
        weight_{r}{c} = Unsqueeze (weight_{r}{c}_t, rest)
        part_{r}{c} = Mul (pixels_{r}{c}, weight_{r}{c})"""
        for r in (0, 1)
        for c in (0, 1)
    )
    return (
        f"""
        batch_s = Squeeze (batch)
        height_f = Cast <to = 1> (height)
        width_f = Cast <to = 1> (width)
        height_last = Sub (height_f, one)
        width_last = Sub (width_f, one)
        q_BHWC = Transpose <perm = [0, 2, 3, 1]> (q)
        query_rows_shape = Concat <axis = 0> (rest, depth)
        query_rows = Reshape (q_BHWC, query_rows_shape)
        heads_shape = Concat <axis = 0> (batch, heads, two_i, row_windows, column_windows)
        scale_5 = Reshape (scale, heads_shape)
        offset_5 = Reshape (offset, heads_shape)
        scale_turned = Transpose <perm = [2, 0, 3, 4, 1]> (scale_5)
        offset_turned = Transpose <perm = [2, 0, 3, 4, 1]> (offset_5)
        scale_f = Cast <to = 1> (scale_turned)
        offset_f = Cast <to = 1> (offset_turned)
        scale_row_1, scale_column_1 = Split <axis = 0, num_outputs = 2> (scale_f)
        offset_row_1, offset_column_1 = Split <axis = 0, num_outputs = 2> (offset_f)
        base = Constant <value_floats: floats = [{base}]> ()
        row_axes = {_ints(-1, -2)}
        base_row_shape = {_ints(window, 1)}
        base_row = Reshape (base, base_row_shape)"""
        + "".join(
            f"""
        {what}_{axis}_4 = Squeeze ({what}_{axis}_1, zero_i)
        {what}_{axis} = Unsqueeze ({what}_{axis}_4, row_axes)"""
            for what in ("scale", "offset")
            for axis in ("row", "column")
        )
        + f"""
        row_source_f = Cast <to = 1> (row_source)
        row_grid_shape = Concat <axis = 0> (row_windows, one_i, one_i, window, one_i)
        row_grid = Reshape (row_source_f, row_grid_shape)
        row_scaled = Mul (base_row, scale_row)
        row_moved = Add (row_scaled, offset_row)
        row_free = Add (row_grid, row_moved)
        row_low = Relu (row_free)
        row = Min (row_low, height_last)
        row_floor = Floor (row)
        b1 = Sub (row, row_floor)
        b0 = Sub (one, b1)
        row_next = Add (row_floor, one)
        row_next_in = Min (row_next, height_last)
        r0_i = Cast <to = 7> (row_floor)
        r1_i = Cast <to = 7> (row_next_in)
        column_source_f = Cast <to = 1> (column_source)
        column_grid_shape = Concat <axis = 0> (column_windows, one_i, one_i, window)
        column_grid = Reshape (column_source_f, column_grid_shape)
        column_scaled = Mul (base, scale_column)
        column_moved = Add (column_scaled, offset_column)
        column_free = Add (column_grid, column_moved)
        {limit}
        column_floor = Floor (column)
        a1 = Sub (column, column_floor)
        a0 = Sub (one, a1)"""
        + column
        + f"""
        c0_i = Cast <to = 7> (c0)
        c1_i = Cast <to = 7> (c1)
        image_range = Range (zero_s, batch_s, one_s)
        image_size = Mul (height, width)
        image_first = Mul (image_range, image_size)
        image_shape = {_ints(-1, 1, 1, 1, 1, 1)}
        image_start = Reshape (image_first, image_shape)
        heads_s = Squeeze (heads)
        head_range = Range (zero_s, heads_s, one_s)
        head_shape = {_ints(-1, 1, 1)}
        head = Reshape (head_range, head_shape)"""
        + corners
        + """
        upper = Add (part_00, part_01)
        lower = Add (part_10, part_11)
        samples = Add (upper, lower)
        q_windows_shape = Concat <axis = 0> (rest, heads, area, depth)
        q_windows = Reshape (samples, q_windows_shape)"""
    )
