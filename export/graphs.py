"""The two modules that are traced: an image in, an image out, and nothing that the direction does not need.

Latitude is the one thing that a tile of a panorama cannot know by itself, so that Upscale is told which rows a tile
leaves out; so is Downscale, where the encoder asks. In the file that input has a default, the whole panorama: who does
not tile need not know of it. The same with how coarsely the LR picture was quantised or is going to be, and whether its
colours will be halved: the default is a lossless file.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from dinn360.networks import RescalingNetwork
from dinn360.sphere import PANORAMA, Frame
from dinn360.tracing import role


class Downscale(nn.Module):
    """hr (B,3,H,W) in [0,1] -> lr (B,3,ceil(H/s),ceil(W/s)), not rounded: the writer of the 8-bit file rounds.

    Holds what `split` needs only (DINN360: I_D); all else stays behind. omitted: as of Upscale, where the network's
    encoder reads the latitude. coarseness, halved: float32 (1,), of the LR picture's file, for an encoder that asks.
    """

    source, result = "hr", "lr"

    def __init__(self, network: RescalingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        hr: Tensor,
        omitted: Tensor | None = None,
        coarseness: Tensor | None = None,
        halved: Tensor | None = None,
    ) -> Tensor:
        frame = PANORAMA if omitted is None else Frame.of_tile(omitted, self.network.config.scale)
        return self.network.downscale(hr, replace(frame, coarseness=coarseness, halved=halved))


class Upscale(nn.Module):
    """lr (B,3,h,w) in [0,1] -> hr (B,3,s*h,s*w), clamped to [0,1]; z = 0, inverse 1x1 matrices stored.

    omitted: int64 (4,), the LR rows that a tile leaves out (see Frame.of_tile). None: the whole panorama.
    coarseness: float32 (1,), how coarsely the LR picture was quantised, for a decoder that asks. None: lossless.
    """

    source, result = "lr", "hr"

    def __init__(self, network: RescalingNetwork) -> None:
        super().__init__()
        network.freeze_inverses()
        self.network = network

    def forward(self, lr: Tensor, omitted: Tensor | None = None, coarseness: Tensor | None = None) -> Tensor:
        frame = replace(PANORAMA, coarseness=coarseness)
        if omitted is not None:
            frame = Frame.of_tile(omitted, self.network.config.scale, coarseness)
        x = self.network.upscale(lr, frame=frame)
        with role("low path"):
            return x.clamp(0, 1)


GRAPHS: dict[str, type[Downscale] | type[Upscale]] = {"down": Downscale, "up": Upscale}
