"""The CUDA deformable convolution over all of its parameters, on the emulator: any small call, and refused ones."""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_cases import TYPES, convolution
from kernels_expected import expected_deform_conv
from kernels_native import needs_compiler

from plugins.testing.emulator.library import Report, deform_conv, load
from plugins.testing.native import HWC, HWC8, LINEAR, deform_conv_params

pytestmark = needs_compiler


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Any small call: what `convolution` takes."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, kernel, dilation = draw(st.integers(1, 3)), draw(pair), draw(pair)
    fields = draw(st.sampled_from([1, groups, 2, 3]))
    pad = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    least = (max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, pad, strict=True))
    return dict(
        channels=math.lcm(groups, fields) * draw(st.integers(1, 9)),
        out=groups * draw(st.integers(1, 9)),
        size=tuple(n + draw(st.integers(0, 6)) for n in least),
        batch=draw(st.integers(1, 2)),
        kernel=kernel,
        groups=groups,
        fields=fields,
        mask=draw(st.booleans()),
        wrap=draw(st.booleans()),
        stride=draw(pair),
        dilation=dilation,
        pad=pad,
        reach=draw(st.sampled_from([0.0, 1.0, 20.0])),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=40, derandomize=True)
@given(case=calls(), type_=st.sampled_from(TYPES), layout=st.sampled_from([LINEAR, HWC8, HWC]))
def test_any_deform_conv(case: dict[str, Any], type_: Any, layout: int) -> None:
    arrays, options = convolution(type_, **case)
    got, _ = deform_conv(*arrays, **options, layout=layout)
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    # Too few elements for the statistics of kernels_cases.py. fp16: a unit in the last place for y and one for samples.
    allowed = 1e-5 if type_ == np.float32 else 2.0**-9
    assert np.abs(got - expected).max() <= allowed * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=None), "a tensor's pointer is null"),
        (dict(batch=0), "sizes, strides, dilations and groups must be at least 1"),
        (dict(stride_row=0), "sizes, strides, dilations and groups must be at least 1"),
        (dict(groups=3), "groups must divide the input and the output channels"),
        (dict(offset_groups=3), "offset groups must divide the input channels"),
        (dict(pad_column=-1), "pads must not be negative"),
        (dict(height=2**16, width=2**15), r"an image has more than 2\^31 pixels"),
        (dict(out_height=2**16, out_width=2**15), r"an image has more than 2\^31 pixels"),
        (dict(dilation_row=2**29), r"a side with its strides and pads more than 2\^29"),
        (dict(height=2**14, width=2**14, channels=64), r"an image of more than 2\^33 values"),
        (dict(channels=2**28), r"more than 2\^29 weights for an output channel"),
        (dict(batch=65536), "more thread blocks than one launch takes"),
    ],
)
def test_a_call_that_cannot_run_is_refused(change: dict[str, Any], message: str) -> None:
    arrays, options = convolution(np.float32, channels=8, out=8, size=(4, 4))
    params, _, _keep = deform_conv_params(*arrays, **options)  # type: ignore[arg-type]
    for name, value in change.items():
        setattr(params, name, value)
    call = load("dinn360_emulated").dinn360_emulated_deform_conv
    call.restype = ctypes.c_char_p
    why = call(ctypes.byref(params), ctypes.byref(Report()))
    assert why is not None
    assert re.match(f"DeformConv2d: .*{message}", why.decode())
