"""A decoder with weights of its own, which starts as the exact inverse of the encoder.

Through a codec the LR picture comes back changed, and what undoes the encoder exactly is no longer what restores best.
The two directions are exported apart anyway, so a deployed decoder costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dinn360.networks.base import NetworkConfig, Reconstruction, RescalingNetwork, Split
from dinn360.networks.coarseness import take_weights
from dinn360.sphere import PANORAMA, Frame


class Untied(RescalingNetwork):
    """Two networks of one config: one splits, the other reconstructs, as its exact inverse at the start.

    Parts that splitting does not use (G_SC and I_P) are the decoder's alone.
    """

    def __init__(self, config: NetworkConfig, encoder: RescalingNetwork, decoder: RescalingNetwork) -> None:
        super().__init__(config)
        take_weights(decoder, encoder.decoder_weights())
        for name in _idle_parts(encoder):
            delattr(encoder, name)
            encoder.__dict__[name] = getattr(decoder, name)  # at hand, but no parameters of the encoder
        self.encoder, self.decoder = encoder, decoder

    def load_tied(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the weights of a network of the same config without `untie`, for both directions."""
        kept = self.encoder.state_dict()
        take_weights(self.encoder, {name: tensor for name, tensor in weights.items() if name in kept})
        take_weights(self.decoder, {**weights, **self.encoder.decoder_weights()})

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        return self.encoder.split(x, frame)

    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        return self.decoder.reconstruct(y, z, frame)

    def downscale(self, x: Tensor, frame: Frame = PANORAMA) -> Tensor:
        return self.encoder.downscale(x, frame)  # each architecture pads in its own way

    def upscale(
        self,
        y: Tensor,
        z: Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
        frame: Frame = PANORAMA,
    ) -> Tensor:
        return self.decoder.upscale(y, z, size, frame)

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        return self.decoder.project(high, y, frame, kept)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def receptive_field(self) -> dict[str, int]:
        encoder, decoder = self.encoder.receptive_field(), self.decoder.receptive_field()
        return {"downscale": encoder["downscale"], "upscale": decoder["upscale"]}

    @property
    def alignment(self) -> int:
        return self.decoder.alignment

    @property
    def extension(self) -> int:
        return self.decoder.extension


def _idle_parts(encoder: RescalingNetwork) -> list[str]:
    """The children of which `split` runs nothing."""
    used: set[str] = set()
    modules = [(name, module) for name, module in encoder.named_modules() if name]
    handles = [module.register_forward_pre_hook(lambda *_, name=name: used.add(name)) for name, module in modules]
    parameter = next(encoder.parameters())
    side = 8 * encoder.config.scale
    with torch.no_grad():
        encoder.split(torch.zeros(1, 3, side, side, device=parameter.device, dtype=parameter.dtype))
    for handle in handles:
        handle.remove()
    running = {name.split(".")[0] for name in used}
    return [name for name, child in encoder.named_children() if name not in running and list(child.parameters())]
