"""DeformConv2d in elementary ONNX operators. Positions are (B,Ho,Wo,G,T): image, pixel, offset group, tap."""

from __future__ import annotations

from export.operators import DEFORM_CONV_2D
from export.primitives.pieces import bilinear_corners, header, inside, ints, modulo


def deform_conv_2d(
    kernel_row: int,
    kernel_column: int,
    stride_row: int,
    stride_column: int,
    pad_row: int,
    pad_column: int,
    dilation_row: int,
    dilation_column: int,
    group: int,
    offset_group: int,
    wrap: int,
    masked: int,
    element: int,
) -> str:
    taps = kernel_row * kernel_column
    reach_row = [t // kernel_column * dilation_row - pad_row for t in range(taps)]
    reach_column = [t % kernel_column * dilation_column - pad_column for t in range(taps)]
    tap_row, tap_column = (", ".join(f"{float(v):.1f}" for v in values) for values in (reach_row, reach_column))
    column = (
        modulo("c0", "column_floor", "width_f")
        + """
        column_next = Add (c0, one)"""
        + modulo("c1", "column_next", "width_f")
        + """
        a0 = Sub (one, column_part)
        a1 = Identity (column_part)"""
        if wrap
        else """
        column_next = Add (column_floor, one)"""
        + inside("c0", "column_floor", "width_last")
        + inside("c1", "column_next", "width_last")
        + """
        a0_free = Sub (one, column_part)
        a0 = Mul (a0_free, c0_inside)
        a1 = Mul (column_part, c1_inside)"""
    )
    mask = (
        f"""
        mask_shape_tail = {ints(offset_group, taps)}
        mask_shape = Concat <axis = 0> (batch, mask_shape_tail, out_height, out_width)
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
    corners = bilinear_corners(element, "rows", "fields", "field")
    inputs = ["x", "offset", "weight", "bias"] + (["mask"] if masked else [])
    return (
        header(DEFORM_CONV_2D.name, list(DEFORM_CONV_2D.attributes), inputs)
        + f"""{{
        zero_i = {ints(0)}
        one_i = {ints(1)}
        rest = {ints(-1)}
        one = Constant <value_floats: floats = [1.0]> ()
        fields = {ints(offset_group)}
        taps_and_pair = {ints(offset_group, taps, 2)}
        shape = Shape (x)
        batch, channels, height, width = Split <axis = 0, num_outputs = 4> (shape)
        out_shape = Shape <start = 2> (offset)
        out_height, out_width = Split <axis = 0, num_outputs = 2> (out_shape)
        depth = Div (channels, fields)
        height_f = Cast <to = 1> (height)
        width_f = Cast <to = 1> (width)
        height_last = Sub (height_f, one)
        width_last = Sub (width_f, one)

        x_BHWC = Transpose <perm = [0, 2, 3, 1]> (x)
        rows_shape = Concat <axis = 0> (rest, depth)
        rows = Reshape (x_BHWC, rows_shape)

        offset_shape = Concat <axis = 0> (batch, taps_and_pair, out_height, out_width)
        offset_BGT2HW = Reshape (offset, offset_shape)
        offset_2BHWGT = Transpose <perm = [3, 0, 4, 5, 1, 2]> (offset_BGT2HW)
        offset_f = Cast <to = 1> (offset_2BHWGT)
        pair_row, pair_column = Split <axis = 0, num_outputs = 2> (offset_f)
        offset_row = Squeeze (pair_row, zero_i)
        offset_column = Squeeze (pair_column, zero_i)

        zero_s = Squeeze (zero_i)
        one_s = Squeeze (one_i)
        height_s = Squeeze (out_height)
        width_s = Squeeze (out_width)
        batch_s = Squeeze (batch)
        row_range = Range (zero_s, height_s, one_s)
        row_range_f = Cast <to = 1> (row_range)
        row_stride = Constant <value_float = {float(stride_row)}> ()
        row_start = Mul (row_range_f, row_stride)
        row_shape = {ints(-1, 1, 1, 1)}
        row_grid = Reshape (row_start, row_shape)
        column_range = Range (zero_s, width_s, one_s)
        column_range_f = Cast <to = 1> (column_range)
        column_stride = Constant <value_float = {float(stride_column)}> ()
        column_start = Mul (column_range_f, column_stride)
        column_shape = {ints(-1, 1, 1)}
        column_grid = Reshape (column_start, column_shape)
        tap_row = Constant <value_floats: floats = [{tap_row}]> ()
        tap_column = Constant <value_floats: floats = [{tap_column}]> ()
        row_base = Add (row_grid, tap_row)
        column_base = Add (column_grid, tap_column)
        row = Add (offset_row, row_base)
        column = Add (offset_column, column_base)

        row_floor = Floor (row)
        row_part = Sub (row, row_floor)
        row_next = Add (row_floor, one)"""
        + inside("r0", "row_floor", "height_last")
        + inside("r1", "row_next", "height_last")
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
        image_shape = {ints(-1, 1, 1, 1, 1)}
        image_start = Reshape (image_first, image_shape)
        field_values = {ints(*range(offset_group))}
        field_shape = {ints(-1, 1)}
        field = Reshape (field_values, field_shape)"""
        + corners
        + (_product(offset_group, taps) if group == 1 else _grouped_product(group, taps))
        + """
        biased = Add (product, bias)
        y = Transpose <perm = [0, 3, 1, 2]> (biased)
        }"""
    )


def _product(offset_group: int, taps: int) -> str:
    """product (B,H,W,O) = samples (B,H,W,G,T,C/G) times weight: the matrix is permuted, not the samples."""
    return f"""
        matrix_rows = {ints(offset_group * taps)}
        matrix_columns = Mul (depth, matrix_rows)
        columns_shape = Concat <axis = 0> (batch, out_height, out_width, matrix_columns)
        columns = Reshape (samples, columns_shape)
        weight_split = {ints(0, offset_group, -1, taps)}
        weight_OGCT = Reshape (weight, weight_split)
        weight_GTCO = Transpose <perm = [1, 3, 2, 0]> (weight_OGCT)
        weight_count = Shape <start = 0, end = 1> (weight)
        matrix_shape = Concat <axis = 0> (matrix_columns, weight_count)
        matrix = Reshape (weight_GTCO, matrix_shape)
        product = MatMul (columns, matrix)"""


def _grouped_product(group: int, taps: int) -> str:
    """As `_product`, each group of channels by itself: samples become (group, B*H*W, C/group*T)."""
    return f"""
        samples_BHWGCT = Transpose <perm = [0, 1, 2, 3, 5, 4]> (samples)
        group_count = {ints(group)}
        taps_count = {ints(taps)}
        group_channels = Div (channels, group_count)
        matrix_rows = Mul (group_channels, taps_count)
        grouped_shape = Concat <axis = 0> (rest, group_count, matrix_rows)
        grouped = Reshape (samples_BHWGCT, grouped_shape)
        columns = Transpose <perm = [1, 0, 2]> (grouped)
        weight_shape = Concat <axis = 0> (group_count, rest, matrix_rows)
        weight_NOK = Reshape (weight, weight_shape)
        matrix = Transpose <perm = [0, 2, 1]> (weight_NOK)
        product_NPO = MatMul (columns, matrix)
        product_PNO = Transpose <perm = [1, 0, 2]> (product_NPO)
        product_shape = Concat <axis = 0> (batch, out_height, out_width, rest)
        product = Reshape (product_PNO, product_shape)"""
