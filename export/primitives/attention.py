"""DSTAttention in elementary ONNX operators. Windows are batch entries: (B*windows, heads, window^2, d)."""

from __future__ import annotations

from export.operators import DST_ATTENTION
from export.primitives.pieces import bilinear_corners, cast, header, ints, modulo, wide


def dst_attention(heads: int, window: int, shift: int, wrap: int, deform: int, element: int) -> str:
    inputs = ["q", "k", "v", "bias"] + (["scale", "offset"] if deform else [])
    attributes = ["heads", "window", "shift", "wrap", "plugin_namespace", "plugin_version"]
    sum_type = wide(element)
    return (
        header(DST_ATTENTION.name, attributes, inputs)
        + f"""{{
        zero_i = {ints(0)}
        one_i = {ints(1)}
        two_i = {ints(2)}
        rest = {ints(-1)}
        one = Constant <value_floats: floats = [1.0]> ()
        window = {ints(window)}
        heads = {ints(heads)}
        area = {ints(window * window)}
        shift = {ints(shift)}
        zero_s = Squeeze (zero_i)
        one_s = Squeeze (one_i)
        shape = Shape (q)
        batch, channels, height, width = Split <axis = 0, num_outputs = 4> (shape)
        depth = Div (channels, heads)
        almost = {ints(window - 1)}"""
        + _axis("row", "height", 0)
        + _axis("column", "width", wrap)
        + _windows("k")
        + _windows("v")
        + (_deformed_queries(window, wrap, element) if deform else _windows("q"))
        + f"""
        k_turned = Transpose <perm = [0, 1, 3, 2]> (k_windows)
        products_t = MatMul (q_windows, k_turned)
        depth_f = Cast <to = {sum_type}> (depth)
        depth_root = Sqrt (depth_f)
        factor = Reciprocal (depth_root)"""
        + cast("products", "products_t", element, sum_type)
        + cast("bias_sum", "bias", element, sum_type)
        + """
        scores_plain = Mul (products, factor)
        scores_biased = Add (scores_plain, bias_sum)"""
        + (_masked(wrap, sum_type) if shift else "\n        scores = Identity (scores_biased)")
        + """
        attention_sum = Softmax <axis = -1> (scores)"""
        + cast("attention", "attention_sum", sum_type, element)
        + """
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


def _masked(wrap: int, element: int) -> str:
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
        region_apart_t = Cast <to = {element}> (region_apart)
        blocked_value = Constant <value_floats: floats = [-100.0]> ()
        blocked_t = Cast <to = {element}> (blocked_value)
        blocked = Mul (region_apart_t, blocked_t)
        window_count = Mul (row_windows, column_windows)
        scores_split = Concat <axis = 0> (batch, window_count, heads, area, area)
        scores_5 = Reshape (scores_biased, scores_split)
        scores_masked = Add (scores_5, blocked)
        scores_joined = Concat <axis = 0> (rest, heads, area, area)
        scores = Reshape (scores_masked, scores_joined)"""


def _deformed_queries(window: int, wrap: int, element: int) -> str:
    """q_windows, sampled at the scaled and shifted points. Positions are (B, windows down, across, heads, i, j)."""
    base = ", ".join(f"{i - (window - 1) / 2:.1f}" for i in range(window))
    column = (
        modulo("c0", "column_floor", "width_f")
        + """
        column_next = Add (c0, one)"""
        + modulo("c1", "column_next", "width_f")
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
    corners = bilinear_corners(element, "query_rows", "heads", "head")
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
        row_axes = {ints(-1, -2)}
        base_row_shape = {ints(window, 1)}
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
        image_shape = {ints(-1, 1, 1, 1, 1, 1)}
        image_start = Reshape (image_first, image_shape)
        heads_s = Squeeze (heads)
        head_range = Range (zero_s, heads_s, one_s)
        head_shape = {ints(-1, 1, 1)}
        head = Reshape (head_range, head_shape)"""
        + corners
        + """
        q_windows_shape = Concat <axis = 0> (rest, heads, area, depth)
        q_windows = Reshape (samples, q_windows_shape)"""
    )
