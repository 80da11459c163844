"""The CUDA kernels against their references, in device memory. Run by itself, compute-sanitizer watches it:

compute-sanitizer python -m tests.device.kernels LIBRARY
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the cases of the emulator's tests

from kernels_cases import ATTENTIONS, CONVOLUTIONS, assert_close, attention, convolution  # noqa: E402
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half  # noqa: E402

from engines.nvidia import cuda  # noqa: E402
from plugins.testing import native  # noqa: E402
from plugins.testing.native import HWC, HWC8, LINEAR, Array  # noqa: E402

FORMS = ((np.float32, LINEAR), (np.float32, HWC), (np.float16, LINEAR), (np.float16, HWC8))
SCRATCH = 0xFF  # what memory holds before: NaN in fp16 and fp32, so that what was not written is seen


def cases() -> Iterator[tuple[str, str, Any, int]]:
    """Operator, case, data type and layout of every call."""
    for operator, table in (("deform_conv", CONVOLUTIONS), ("dst_attention", ATTENTIONS)):
        for case in table:
            yield from ((operator, case, type_, layout) for type_, layout in FORMS)


def run(library: Path, names: Sequence[str] = ()) -> int:
    """Every case, or those of `names`; the number of calls. Raises AssertionError with the case that is wrong."""
    calls = ctypes.CDLL(str(library))
    stream = cuda.Stream("the kernels")
    done = 0
    try:
        for operator, case, type_, layout in cases():
            if not names or case in names:
                _check(calls, stream, operator, case, type_, layout)
                done += 1
    finally:
        stream.close()
    return done


def _check(calls: Any, stream: cuda.Stream, operator: str, case: str, type_: Any, layout: int) -> None:
    make, table, expected, params_of = {
        "deform_conv": (convolution, CONVOLUTIONS, expected_deform_conv, native.deform_conv_params),
        "dst_attention": (attention, ATTENTIONS, expected_dst_attention, native.dst_attention_params),
    }[operator]
    arrays, options = make(type_, **table[case])  # type: ignore[operator]
    params, y, keep = params_of(*arrays, **options, layout=layout)  # type: ignore[operator]
    names = [name for name, kind in params._fields_ if kind is ctypes.c_void_p]
    for number, (name, array) in enumerate(zip(names, [*keep, y], strict=True)):
        if array is not None:
            buffer = stream.buffer(f"tensor {number}", array.nbytes)
            stream.upload(buffer, array)
            setattr(params, name, buffer.device)
    what = f"{operator} {case} {np.dtype(type_).name} layout {layout}"
    size = getattr(calls, f"dinn360_{operator}_workspace")
    size.restype = ctypes.c_size_t
    bytes_ = max(1, size(ctypes.byref(params)))
    workspace = stream.buffer("workspace", bytes_)
    stream.upload(workspace, np.full(bytes_, SCRATCH, np.uint8))
    launch = getattr(calls, f"dinn360_{operator}")
    launch.restype = ctypes.c_char_p
    why = launch(ctypes.byref(params), ctypes.c_void_p(workspace.device), ctypes.c_void_p(int(stream.handle)))
    assert why is None, f"{what}: {why.decode() if why else ''}"
    result = stream.buffer(f"tensor {len(names) - 1}", y.nbytes)
    stream.download(result, y.nbytes)
    stream.synchronize()
    found = result.view(y.shape, y.dtype)
    wanted = expected(*arrays, **options)  # type: ignore[operator]
    ideal = expected(*arrays, **options, rounded=to_half)  # type: ignore[operator]
    assert_close(_logical(found, layout, wanted.shape[1], what), wanted, ideal, what)


def _logical(y: Array, layout: int, channels: int, what: str) -> Array:
    if layout == LINEAR:
        return y.copy()
    assert not np.any(y[..., channels:]), f"{what}: the channels that fill y up are not zero"
    return native.from_hwc8(y, channels)


def main() -> None:
    parser = argparse.ArgumentParser(description="The CUDA kernels against their references, on this machine's GPU.")
    parser.add_argument("library", type=Path, help="libdinn360_kernels_c.so")
    parser.add_argument("cases", nargs="*", help="names of tests/kernels_cases.py; default: all")
    options = parser.parse_args()
    print(f"{run(options.library, options.cases)} calls agree with their references")


if __name__ == "__main__":
    main()
