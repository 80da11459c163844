"""The network's operators. Each has one file: the function, its composed definition in PyTorch, and for the deformable
ones a plain reference that every other implementation is tested against (PyTorch, ONNX, CPU and CUDA kernels).

An exporter sees each as a single node, `dinn360::deform_conv2d` and so on; eager PyTorch, autograd and torch.compile
run the composed definitions, or a kernel that is registered for the operator (`cpu`: the deformable convolution of
training). Sampling coordinates are never below fp32: at 16 bits they would step by whole pixels on wide panoramas.

All act on the sphere: with `wrap` the column of a sample is taken modulo W, so no padded copy is part of the schema.
"""

from dinn360.ops.attention import dst_attention, window_index
from dinn360.ops.channel_norm import channel_norm
from dinn360.ops.deform_conv import deform_conv2d
from dinn360.ops.haar import haar, haar_inverse
from dinn360.ops.sizes import crop, pad_to_multiple, spread, zeros
from dinn360.ops.sphere_conv import sphere_conv2d
from dinn360.ops.window_mean import window_mean

__all__ = [
    "channel_norm",
    "crop",
    "deform_conv2d",
    "dst_attention",
    "haar",
    "haar_inverse",
    "pad_to_multiple",
    "sphere_conv2d",
    "spread",
    "window_index",
    "window_mean",
    "zeros",
]
