"""The other architectures, flat DINN360, IRN and HCFlow: the laws of all networks, and what they share with DINN360."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import build, picture, tiny, tiny_flat, tiny_hcflow, tiny_irn
from torch import Tensor
from training_runs import SHORT

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.configs import config_from_dict
from dinn360.data.crops import Crops
from dinn360.info import describe
from dinn360.networks import (
    FlatConfig,
    HCFlowConfig,
    IRNConfig,
    IRNLevel,
    NetworkConfig,
    RescalingNetwork,
    build_network,
    preset,
)
from dinn360.networks.errors import ConfigError
from dinn360.sphere import Frame
from dinn360.training.losses import algorithm_1
from dinn360.training.train import Trainer
from engines.support.arrays import Image8
from engines.support.errors import UserError

TINY: dict[str, Callable[[int], NetworkConfig]] = {"flat": tiny_flat, "irn": tiny_irn, "hcflow": tiny_hcflow}
SCALES = (2, 4, 8)
CROP = Frame(wrap=False)


@pytest.fixture(params=[f"{name}-x{scale}" for name in TINY for scale in SCALES])
def config(request: pytest.FixtureRequest) -> NetworkConfig:
    name, scale = request.param.split("-x")
    return TINY[name](int(scale))


def strong(config: NetworkConfig, seed: int = 0) -> RescalingNetwork:
    """fp64, with features that are not small beside their biases, so that no law holds because nothing happens."""
    network = build(config, seed).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".convs." in name and name.endswith("weight"):
                parameter.mul_(5)
    return network


def unit(config: NetworkConfig) -> int:
    """`split` takes images whose sides are multiples of it."""
    return max(4, config.scale) if isinstance(config, FlatConfig) else config.scale


def change(network: RescalingNetwork, x: Tensor) -> float:
    """How far the LR image is from the box mean, on average."""
    box = torch.nn.functional.avg_pool2d(x, network.config.scale)
    return float((network.split(x).y - box).abs().mean())


@pytest.mark.parametrize("frame", [Frame(), CROP], ids=["panorama", "crop"])
def test_the_round_trip_with_the_true_latents_is_exact(config: NetworkConfig, frame: Frame) -> None:
    network = strong(config)
    x = picture(3 * unit(config), 5 * unit(config), dtype=torch.float64)
    with torch.no_grad():
        assert 0.03 < change(network, x) < 10
        y, high, kept = network.split(x, frame)
        z = network.project(high, y, frame, kept)
        assert (network.upscale(y, z, frame=frame) - x).abs().max() < 1e-10
        for given, recovered in zip(z, network.project(high, y, frame), strict=True):
            assert (given - recovered).abs().max() < 1e-10
        without = network.upscale(y, frame=frame)
        zeros = [torch.zeros_like(latent) for latent in z]
        torch.testing.assert_close(network.upscale(y, zeros, frame=frame), without, atol=1e-12, rtol=0)
        assert (without - x).abs().max() > 0.01


def test_rolling_the_panorama_rolls_both_images(config: NetworkConfig) -> None:
    network, scale = strong(config), config.scale
    by = 2 * network.alignment
    x = picture(3 * unit(config), 7 * network.alignment * scale, dtype=torch.float64)
    with torch.no_grad():
        y = network.downscale(x)
        restored = network.upscale(y)
        assert (network.downscale(x.roll(by * scale, 3)) - y.roll(by, 3)).abs().max() < 1e-10
        assert (network.upscale(y.roll(by, 3)) - restored.roll(by * scale, 3)).abs().max() < 1e-10
        # The control: a crop has edges.
        cropped = network.downscale(x, CROP)
        assert (network.downscale(x.roll(by * scale, 3), CROP) - cropped.roll(by, 3)).abs().max() > 1e-4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (17, 33)])
def test_any_size(config: NetworkConfig, height: int, width: int) -> None:
    network, scale = build(config), config.scale
    with torch.no_grad():
        y = network.downscale(picture(height, width))
        assert y.shape == (1, 3, -(-height // scale), -(-width // scale)) and bool(y.isfinite().all())
        x = network.upscale(y)
        assert x.shape == (1, 3, y.shape[2] * scale, y.shape[3] * scale) and bool(x.isfinite().all())
        assert torch.equal(network.upscale(y, size=(height, width)), x[..., :height, :width])


def test_every_parameter_learns_and_the_loss_falls(config: NetworkConfig) -> None:
    """By Algorithm 1 as it is, with samples, backflow and all three losses."""
    network = build(config).train()
    x = torch.cat([picture(4 * unit(config), 4 * unit(config), seed) for seed in range(2)])
    frame = Frame(False, torch.tensor([0, 32]), torch.tensor([128, 128]))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    losses = []
    for step in range(12):
        found = algorithm_1(network, x, frame, (1.0, 0.05, 1e-3), 0.1, latent=True, sample=step == 0)
        optimiser.zero_grad()
        found.total.backward()
        if step == 0:
            idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
            assert idle == []
        else:
            losses.append(float(found.total.detach()))
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", TINY)
def test_the_training_loop_takes_it_as_it_is(name: str, tmp_path: Path, forest: Image8) -> None:
    config = TINY[name](2)
    trainer = Trainer(config, SHORT, Crops([forest], [], SHORT.crop, SHORT.batch, 0, 0.0), None, tmp_path)
    before = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    trainer.run()
    again = Trainer(config, SHORT, trainer.crops, None, tmp_path)
    again.resume()
    assert again.step == SHORT.steps and trainer.skipped == 0
    assert [key for key, tensor in again.network.state_dict().items() if torch.equal(tensor, before[key])] == []
    assert load_checkpoint(tmp_path / "last.pth").config == config


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_survives_the_way_to_disk(config: NetworkConfig, suffix: str, tmp_path: Path) -> None:
    network, path = build(config), tmp_path / f"network{suffix}"
    save_checkpoint(path, Checkpoint(config, network.state_dict(), {"steps": 3}))
    again = load_checkpoint(path)
    assert again.config == config and type(again.config) is type(config)
    y = picture(4, 8)
    with torch.no_grad():
        assert torch.equal(again.build().upscale(y), network.upscale(y))


def test_a_file_without_a_tag_is_of_dinn360(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    config = tiny(2)
    save_checkpoint(path, Checkpoint(config, build(config).state_dict()))
    assert "architecture" not in torch.load(path, weights_only=True)["config"]
    assert load_checkpoint(path).config == config


@pytest.mark.parametrize("tag", ["hourglass", 7, None, ["irn"]])
def test_an_unknown_architecture_is_refused_in_one_line(tag: object, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    save_checkpoint(path, Checkpoint(tiny_irn(2), {}))
    content = torch.load(path, weights_only=True)
    content["config"]["architecture"] = tag
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (str(path), "unknown architecture", repr(tag)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IRNConfig(scale=3, levels=(IRNLevel(1, 4),)), ("scale", "3")),
        (lambda: IRNConfig(scale=4, levels=(IRNLevel(1, 4),)), ("levels", "1")),
        (lambda: IRNConfig(scale=2, levels=(IRNLevel(0, 4),)), ("levels[0].blocks", "0")),
        (lambda: IRNConfig(scale=2, levels=(IRNLevel(1, 4),), coupling_clamp=0.0), ("coupling_clamp", "0.0")),
        (lambda: HCFlowConfig(scale=4, levels=tiny_hcflow(2).levels), ("levels", "1")),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(make: Callable[[], object], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": "irn", "scale": 2, "levels": [{"blocks": 1, "growth": "x"}]}, ("growth", "'x'")),
        ({"architecture": "irn", "scale": 2, "levels": 7}, ("model config",)),
        ({"architecture": "irn", "scale": 2, "levels": [{"blocks": 0, "growth": 4}]}, ("levels[0].blocks", "0")),
        ({"architecture": "hcflow", "scale": 2, "levels": [{"blocks": 1}]}, ("model config", "blocks")),
        ({**tiny_irn(2).to_dict(), "colour": 1}, ("colour",)),
    ],
)
def test_a_wrong_config_in_a_file_is_the_users(values: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        config_from_dict(values)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)


@functools.cache
def macs(name: str, scale: int) -> float:
    """Multiply-accumulates of downscaling and upscaling together, for an HR pixel."""
    return sum(describe(preset(name, scale), size=(64, 32)).macs.values())


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in ("irn-edge", "hcflow-edge") for scale in SCALES])
def test_edge_has_the_multiply_accumulates_of_dinn360_edge(name: str, scale: int) -> None:
    assert macs(name, scale) == pytest.approx(macs("edge", scale), rel=0.05)


@pytest.mark.parametrize(("scale", "parameters"), [(2, 1_667_952), (4, 4_355_136), (8, 11_119_248)])
def test_irn_has_the_size_of_the_paper(scale: int, parameters: int) -> None:
    """1.67, 4.36 and 11.12 million, as the paper and its code count: the structure is theirs."""
    with torch.device("meta"):
        network = build_network(preset("irn-base", scale))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("scale", "parameters"), [(2, 2_064_216), (4, 4_394_448), (8, 7_190_664)])
def test_hcflow_has_the_size_of_the_published_network(scale: int, parameters: int) -> None:
    """4.40 million at x4, 1.37 of them in the main flow. Theirs has a few thousand more that change no function: each
    hidden convolution of the conditional flow has a scale beside its bias, each last one a second scale.
    """
    with torch.device("meta"):
        network = build_network(preset("hcflow-base", scale))
    assert sum(p.numel() for p in network.parameters()) == parameters
    if scale == 4:
        assert parameters == pytest.approx(4.40e6, rel=0.002)
        assert sum(p.numel() for p in network.parts()["main flow"].parameters()) == pytest.approx(1.37e6, rel=0.002)


def test_nothing_beyond_the_receptive_field_changes_a_pixel(config: NetworkConfig) -> None:
    network, scale = strong(config), config.scale
    reach = network.receptive_field()
    at = (max(reach.values()) // scale + 8) * scale
    x = picture(2 * unit(config), 2 * at, dtype=torch.float64)
    changed = x.clone()
    changed[..., at] = 1 - changed[..., at]
    small = torch.rand(1, 3, 2, 2 * at // scale, dtype=torch.float64)
    small_changed = small.clone()
    small_changed[..., at // scale] += 1
    with torch.no_grad():
        for direction, pair, pixel in (
            ("downscale", (network.downscale(x), network.downscale(changed)), scale),
            ("upscale", (network.upscale(small), network.upscale(small_changed)), 1),
        ):
            columns = pixel * ((pair[0] - pair[1]).abs().amax((0, 1, 2)) > 0).nonzero()[:, 0]
            furthest = int((columns - at).abs().max())
            assert reach[direction] / 3 < furthest <= reach[direction], direction


def test_the_parts_hold_all_parameters(config: NetworkConfig) -> None:
    network = build_network(config)
    counted = sum(p.numel() for part in network.parts().values() for p in part.parameters())
    assert counted == sum(p.numel() for p in network.parameters()) == describe(config, size=(64, 32)).total
