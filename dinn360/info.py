"""What a network costs: parameters, multiply-accumulates, receptive field and memory. Nothing is computed:
the network runs on PyTorch's meta device, which knows shapes only, so that every size is instant.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dinn360.networks import NetworkConfig, RescalingNetwork, build_network

# Rows and columns of the image that MACs are counted on: multiples of every scale times every usual window, so that no
# padding is counted, and of a usual size, so that a margin counts for what it is.
COUNTED = (1920, 3840)


@dataclass(frozen=True)
class Info:
    """Figures of one network. Per-pixel figures are for an HR pixel, sizes are in bytes.

    parameters: by part (DINN360: I_D, G_SC, I_P). macs: by direction. receptive_field: radius, by direction.
    traffic: bytes to and from memory in fp16, by direction (`count_traffic`).
    weights: the fp32 parameters. peak: the live tensors, weights included, at `size` (width, height), by
    direction.
    """

    preset: str
    scale: int
    parameters: dict[str, int]
    macs: dict[str, float]
    traffic: dict[str, float]
    receptive_field: dict[str, int]
    size: tuple[int, int]
    weights: int
    peak: dict[str, int]

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**asdict(self), "size": list(self.size), "total_parameters": self.total}

    def text(self) -> str:
        """The figures as lines, with what they mean."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        width, height = self.size
        down, up = self.macs["downscale"], self.macs["upscale"]
        moved = self.traffic
        gib = {name: value / 2**30 for name, value in self.peak.items()}
        return "\n".join(
            [
                f"network          {self.preset} x{self.scale}",
                f"parameters       {self.total:,} ({parts})",
                f"MAC per HR pixel downscale {down:,.0f}, upscale {up:,.0f}",
                "                 (convolutions, matrix products, bilinear sampling; no elementwise work)",
                f"bytes moved      downscale {moved['downscale']:,.0f}, upscale {moved['upscale']:,.0f} per HR pixel",
                "                 (fp16, element-wise work fused, deformable operators as unrolled samples)",
                f"receptive field  downscale {self.receptive_field['downscale']}, upscale "
                f"{self.receptive_field['upscale']} HR pixels to each side",
                "                 (upper bound; without where a DST places its queries, which is learned)",
                f"memory           weights {self.weights / 2**20:.1f} MiB; at {width}x{height}, fp32:"
                f" downscale {gib['downscale']:.2f} GiB, upscale {gib['upscale']:.2f} GiB",
                "                 (peak of live tensors in PyTorch, without the work space of its kernels)",
            ]
        )


def describe(config: NetworkConfig, size: tuple[int, int] = (3840, 1920)) -> Info:
    """The figures of a network of `config`; memory for an HR image of `size` (width, height)."""
    with torch.device("meta"):
        network = build_network(config).eval()
        network.freeze_inverses()
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    peak = {name: weights + peak_bytes(run) for name, run in directions(network, size[1], size[0]).items()}
    pixels = COUNTED[0] * COUNTED[1]
    return Info(
        preset=config.preset,
        scale=config.scale,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in network.parts().items()},
        macs={name: count_macs(run) / pixels for name, run in directions(network, *COUNTED).items()},
        traffic={name: count_traffic(run) / pixels for name, run in directions(network, *COUNTED).items()},
        receptive_field=network.receptive_field(),
        size=size,
        weights=weights,
        peak=peak,
    )


def directions(network: RescalingNetwork, height: int, width: int) -> dict[str, Callable[[], Tensor]]:
    """Both directions for one HR image of a size."""
    scale = network.config.scale
    x = torch.empty(1, 3, height, width, device="meta")
    y = torch.empty(1, 3, math.ceil(height / scale), math.ceil(width / scale), device="meta")
    return {"downscale": lambda: network.downscale(x), "upscale": lambda: network.upscale(y)}


def _sampling_flops(image: Any, grid: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """A bilinear sample is four multiply-accumulates a channel, which PyTorch's counter does not know.

    For DConv (k*k taps of C channels) that is 4*C*k*k an output position, for DST 4*C a query position.
    """
    return 8 * int(math.prod(out_shape))


def count_macs(run: Callable[[], Any]) -> int:
    """Multiply-accumulates of convolutions, matrix products and bilinear sampling in `run`."""
    samplers = {torch.ops.aten.grid_sampler_2d: _sampling_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=samplers) as counter:
        run()
    return int(counter.get_total_flops()) // 2


class _Traffic(TorchDispatchMode):
    """Adds up what operators read and write, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        written = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        given = {tensor.untyped_storage()._cdata for tensor in read}
        sizes = sorted(tensor.numel() for tensor in read)
        if not read or all(tensor.untyped_storage()._cdata in given for tensor in written):
            return result  # a view, or made of nothing
        if torch.Tag.pointwise in func.tags:  # part of what makes its largest operand: only the others are read
            self.elements += sum(sizes[:-1])
        elif func is torch.ops.aten.index_select.default:
            self.elements += 2 * written[0].numel()
        else:
            self.elements += sum(sizes) + sum(tensor.numel() for tensor in written)
        return result


def count_traffic(run: Callable[[], Any]) -> int:
    """Bytes that `run` moves with every tensor in fp16, weights among them, as a device would that fuses element-wise
    operators into what makes their operand: what convolutions, products, samplings and copies read and write.

    A bound to compare networks by, from PyTorch's definitions; `python -m export estimate` counts a graph's.
    """
    traffic = _Traffic()
    with torch.no_grad(), traffic:
        run()
    return 2 * traffic.elements


class _LiveBytes(TorchDispatchMode):
    """Adds up the memory of tensors made under it, and takes off what is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in given or storage._cdata in self._known:
                continue  # a view
            self._known.add(storage._cdata)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that the tensors made in `run` take at once."""
    memory = _LiveBytes()
    with torch.no_grad(), memory:
        run()
    return memory.peak
