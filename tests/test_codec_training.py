"""Training through a codec on tiny budgets: what is learnt, what a checkpoint says of it, and a decoder of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import kept_trace
from networks import randomise, tiny, tiny_irn
from training_runs import SHORT, make, take

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.configs import config_from_dict
from dinn360.networks import build_network
from dinn360.networks.untied import Untied
from dinn360.session import TorchSession
from dinn360.tiling import tiling
from dinn360.training.config import TrainConfig
from dinn360.training.run_file import resolve
from engines.panorama.coding import Survives
from engines.support.arrays import Image8, to_tensor
from engines.support.errors import UserError
from export.onnx import Form, finish, metadata

JPEG = replace(SHORT, codec="jpeg", quality="60:90", lambda_rate=0.01, lambda_chroma=1.0, lambda_z=0.0)
CONFIGS = Path(__file__).parents[1] / "dinn360" / "training" / "configs"


def test_steps_through_jpeg(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, JPEG)
    first = take(trainer)
    assert 0.1 < first["bits"] < 4 and np.isfinite(first["norm"])
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    take(trainer)
    moved = [name for name, tensor in trainer.network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any(name.startswith("deformable") for name in moved) and any(name.startswith("cond") for name in moved)
    assert np.isnan(take(make(tmp_path, forest))["bits"])


def test_a_rate_term_makes_files_smaller(tmp_path: Path, forest: Image8) -> None:
    """Steps on one batch with nothing but the rate to lose."""
    config = replace(JPEG, steps=12, quality="75:75", lambda_h=0.0, lambda_rate=1.0, crop=32)
    trainer = make(tmp_path, forest, config)
    batch = trainer.batch(0)
    bits = [trainer.take_step(batch)["bits"] for _ in range(12)]
    assert bits[-1] < 0.9 * bits[0]


def test_only_the_decoder(tmp_path: Path, forest: Image8) -> None:
    """With a bicubic LR image nothing reaches the encoder of an untied network."""
    trainer = make(tmp_path, forest, replace(JPEG, downscaler="bicubic", lambda_l=0.0, lambda_chroma=0.0), untie=True)
    take(trainer)
    assert isinstance(trainer.network, Untied)
    assert all(p.grad is None or not p.grad.any() for p in trainer.network.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in trainer.network.decoder.parameters())


def test_a_checkpoint_says_its_codec_and_a_graph_repeats_it(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, replace(JPEG, steps=1))
    trainer.run()
    trainer.channel.close()  # type: ignore[union-attr]
    checkpoint = load_checkpoint(tmp_path / "last.pth")
    expected = Survives("jpeg", 60, 90, ("4:2:0", "4:4:4"))
    assert Survives.of(metadata(checkpoint, "ab", "up", Form()), "up.onnx") == expected
    assert Survives.of(TorchSession.load(tmp_path / "last.pth", "down").metadata, "") == expected
    assert "codec" not in metadata(load_checkpoint(CONFIGS.parents[2] / "checkpoints" / "x2.pth"), "ab", "up", Form())


@pytest.mark.parametrize("config", [tiny(4), tiny_irn(2)], ids=["dinn360", "irn"])
def test_an_untied_network_begins_as_the_exact_inverse(config, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tied = randomise(build_network(config), 0)
    network = build_network(replace(config, untie=True))
    assert isinstance(network, Untied)
    network.load_tied(tied.state_dict())
    x = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        split = tied.split(x)
        assert torch.equal(network.split(x).y, split.y)
        torch.testing.assert_close(network.upscale(split.y), tied.upscale(split.y))
        latents = network.project(split.high, split.y, kept=split.kept)
        torch.testing.assert_close(network.upscale(split.y, latents), x, atol=2e-4, rtol=0)
    assert network.receptive_field() == tied.receptive_field() and network.alignment == tied.alignment
    assert tiling(network, "up", measure=False) == tiling(tied, "up", measure=False)
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(network.config, network.state_dict()))
    again = load_checkpoint(tmp_path / "a.safetensors")
    assert again.config.untie and torch.equal(again.build().upscale(split.y), network.upscale(split.y))
    assert "untie" not in config.to_dict() and config_from_dict(config.to_dict()) == config
    shared = sum(p.numel() for p in tied.parameters())
    assert shared <= sum(p.numel() for p in network.parameters()) <= 2 * shared


def test_an_untied_run_starts_from_a_tied_checkpoint(tmp_path: Path, forest: Image8) -> None:
    tied = make(tmp_path / "a", forest)
    checkpoint = Checkpoint(tied.model, tied.network.state_dict())
    trainer = make(tmp_path / "b", forest, JPEG, untie=True)
    trainer.start_from(checkpoint)
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(trainer.network.split(x).y, tied.network.split(x).y)
    with pytest.raises(UserError, match="of another architecture"):
        make(tmp_path / "c", forest, JPEG).start_from(Checkpoint(trainer.model, trainer.network.state_dict()))


def test_an_untied_network_is_exported(tmp_path: Path, forest: Image8) -> None:
    """Each graph holds its own direction's weights."""
    network = build_network(replace(tiny_irn(2), untie=True)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    image = np.ascontiguousarray(forest[100:132, :64])
    import onnxruntime

    for direction, source in (("down", image), ("up", image[:16, :32])):
        graph = finish(kept_trace(network, direction, 19), direction, Form())
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        x = torch.from_numpy(to_tensor(np.ascontiguousarray(source)))
        with torch.no_grad():
            expected = network.downscale(x) if direction == "down" else network.upscale(x).clamp(0, 1)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


@pytest.mark.parametrize(
    ("quality", "words"), [("95:50", "95:50"), ("50", "'50'"), ("0:90", "0:90"), ("50:101", "101"), ("a:b", "a:b")]
)
def test_wrong_qualities(quality: str, words: str) -> None:
    with pytest.raises(UserError, match="--quality: expected two whole numbers of 1 to 100") as caught:
        TrainConfig(quality=quality)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["x2-codec.toml", "x4-codec.toml"])
def test_the_campaigns_can_start(name: str) -> None:
    """The files resolve, and the checkpoint that they start from fits them."""
    found = resolve(CONFIGS / name, {"data": {"train": "a"}})
    plan = found.train.coding_plan()
    assert plan is not None and plan.codec == "jpeg" and found.model.untie
    assert found.run.init is not None
    start = load_checkpoint(CONFIGS.parents[2] / found.run.init).config
    assert replace(start, untie=True) == found.model
