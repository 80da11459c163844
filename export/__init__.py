"""From a checkpoint to the two ONNX graphs that go onto devices, and the proof that they compute the same."""

import sys

if sys.version_info < (3, 11):
    raise ImportError(f"export needs Python 3.11 or newer, found {sys.version_info[0]}.{sys.version_info[1]}")
