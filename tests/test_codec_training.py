"""Training through a codec on tiny budgets: what is learnt, what a checkpoint says of it, and a decoder of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import kept_trace
from networks import randomise, tiny, tiny_flat, tiny_irn
from PIL import Image
from training_runs import SHORT, make, take

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.codec.coders import Coder
from dinn360.codec.layer import Channel, Plan
from dinn360.configs import config_from_dict
from dinn360.data.crops import Crops
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.rate_distortion import DIRECT, measure
from dinn360.evaluation.systems import Decoder, Interpolation, Network
from dinn360.evaluation.validate_codec import LADDER, CodecValidation
from dinn360.info import describe
from dinn360.networks import build_network, preset
from dinn360.networks.errors import ConfigError
from dinn360.networks.untied import Untied
from dinn360.session import TorchSession
from dinn360.sphere import Frame
from dinn360.tiling import tiling
from dinn360.training.config import TrainConfig
from dinn360.training.logger import read_csv
from dinn360.training.losses import fine_chroma
from dinn360.training.run_file import resolve
from dinn360.training.train import Trainer
from engines.panorama.coding import Survives
from engines.support.arrays import Image8, to_tensor
from engines.support.errors import UserError
from export.config import ExportConfig
from export.onnx import export_checkpoint, finish, metadata

JPEG = replace(SHORT, codec="jpeg", quality="60:90", lambda_rate=0.01, lambda_chroma=1.0, lambda_z=0.0)
CONFIGS = Path(__file__).parents[1] / "dinn360" / "training" / "configs"
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


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
    path = tmp_path / "decoder.pth"
    save_checkpoint(path, trainer.checkpoint({}))
    assert TorchSession.load(path, "up").metadata["codec"] == "jpeg"
    with pytest.raises(UserError, match="decoder.pth: expected a network that downscales, found a decoder trained"):
        TorchSession.load(path, "down")
    with pytest.raises(UserError, match="decoder.pth: expected a network for both directions"):
        export_checkpoint(path, tmp_path / "graphs")


def test_a_checkpoint_says_its_codec_and_a_graph_repeats_it(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, replace(JPEG, steps=1))
    trainer.run()
    trainer.channel.close()  # type: ignore[union-attr]
    checkpoint = load_checkpoint(tmp_path / "last.pth")
    expected = Survives("jpeg", 60, 90, ("4:2:0", "4:4:4"))
    assert Survives.of(metadata(checkpoint, "ab", "up", ExportConfig()), "up.onnx") == expected
    assert Survives.of(TorchSession.load(tmp_path / "last.pth", "down").metadata, "") == expected
    assert "codec" not in metadata(
        load_checkpoint(CONFIGS.parents[2] / "checkpoints" / "x2.pth"), "ab", "up", ExportConfig()
    )


@pytest.mark.parametrize("config", [tiny(4), tiny_irn(2), tiny_flat(2)], ids=["dinn360", "irn", "flat"])
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
    odd = torch.rand(1, 3, 29, 53)  # each architecture pads to a multiple of its own
    with torch.no_grad():
        lr = tied.downscale(odd)
        assert torch.equal(network.downscale(odd), lr)
        torch.testing.assert_close(network.upscale(lr, size=(29, 53)), tied.upscale(lr, size=(29, 53)))
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


@pytest.mark.parametrize("untie", [False, True])
def test_the_switches_of_a_codec_may_go_on_where_a_checkpoint_is_taken_up(
    untie: bool, tmp_path: Path, forest: Image8
) -> None:
    old = randomise(build_network(tiny_flat(2, untie=untie)), 0)
    checkpoint = Checkpoint(old.config, old.state_dict())
    crops = Crops([forest], [], JPEG.crop, JPEG.batch, JPEG.seed, 0.0, "forest")
    trainer = Trainer(tiny_flat(2, untie=True, luma_details=True, reads_coarseness=True), JPEG, crops, None, tmp_path)
    trainer.start_from(checkpoint)
    y = torch.rand(1, 3, 16, 32)
    coarse = Frame(coarseness=torch.tensor([4.0]))
    assert torch.equal(trainer.network.upscale(y), trainer.network.upscale(y, frame=coarse))  # knows nothing yet
    if untie:
        torch.testing.assert_close(trainer.network.upscale(y), old.upscale(y), atol=1e-4, rtol=0)
    assert np.isfinite(take(trainer)["loss"])
    steering = {n: p for n, p in trainer.network.named_parameters() if n.endswith("by_coarseness")}
    assert len(steering) == 4 + 2 and all(p.any() for p in steering.values())  # of 2 blocks, and of G_SC
    assert not any(name.startswith("encoder") for name in steering)
    knowing = Trainer(replace(trainer.model, knows_file=True), JPEG, crops, None, tmp_path)
    knowing.start_from(trainer.checkpoint({}))
    x, told = torch.rand(1, 3, 32, 64), Frame(coarseness=torch.tensor([4.0]), halved=torch.ones(1))
    torch.testing.assert_close(
        knowing.network.downscale(x, told), trainer.checkpoint({}).build().downscale(x), atol=1e-5, rtol=0
    )
    assert np.isfinite(take(knowing)["loss"])
    off = Trainer(tiny_flat(2, untie=True), JPEG, crops, None, tmp_path)
    with pytest.raises(UserError, match="luma_details: expected False, found True"):  # its encoder does something else
        off.start_from(trainer.checkpoint({}))


def test_each_sample_has_its_own_coarseness() -> None:
    """What the channel tells of a batch is what the decoder makes of its samples one by one."""
    network = randomise(build_network(tiny_flat(2, untie=True, reads_coarseness=True)), 0)
    y = (torch.rand(4, 3, 32, 32) * 255).round() / 255
    channel = Channel(Plan("jpeg", 50, 95, "mixed", clean=0.25))
    files = channel.draw(len(y), (1,))
    received, coarseness = channel(y, files), torch.tensor(files.coarseness())
    assert sorted(files.coarseness())[0] == 0 and len(set(files.coarseness())) == 4
    with torch.no_grad():
        together = network.reconstruct(received.y, frame=Frame(False, coarseness=coarseness)).x
        for n in range(4):
            frame = Frame(False, coarseness=coarseness[n : n + 1])
            torch.testing.assert_close(
                network.reconstruct(received.y[n : n + 1], frame=frame).x, together[n : n + 1], atol=1e-5, rtol=0
            )
        lossless = network.reconstruct(received.y, frame=Frame(False)).x
    clean = coarseness == 0
    torch.testing.assert_close(lossless[clean], together[clean], atol=1e-5, rtol=0)
    assert (lossless - together)[~clean].abs().max() > 0.01


def test_an_encoder_that_knows_its_file() -> None:
    """Details of colours are there where the file keeps them, none where it halves them, sample by sample."""
    network = randomise(build_network(tiny_flat(2, untie=True, luma_details=True, knows_file=True)), 0)
    x = torch.rand(1, 3, 64, 64).repeat(3, 1, 1, 1)
    coarseness, halved = torch.tensor([3.0, 3.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    with torch.no_grad():
        y = network.split(x, Frame(False, coarseness=coarseness, halved=halved)).y
        for n in range(3):
            frame = Frame(False, coarseness=coarseness[n : n + 1], halved=halved[n : n + 1])
            torch.testing.assert_close(network.split(x[:1], frame).y, y[n : n + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(network.split(x[:1], Frame(False)).y, y[2:], atol=1e-5, rtol=0)
        plain = build_network(tiny_flat(2, untie=True)).split(x[:1], Frame(False)).y  # the low-pass image
    fine = [fine_chroma(each[None] - plain) for each in y]
    assert (y[0] - plain).abs().max() > 0.01 and fine[0] < 0.05 * min(fine[1:])  # steps between means are sharp
    assert (y[1] - y[2]).abs().max() > 0.01  # and the coarseness tells, too
    with pytest.raises(ConfigError, match="knows_file: expected an untied decoder"):
        tiny_flat(2, knows_file=True)


def test_an_untied_network_is_exported(tmp_path: Path, forest: Image8) -> None:
    """Each graph holds its own direction's weights."""
    network = build_network(replace(tiny_irn(2), untie=True)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    image = np.ascontiguousarray(forest[100:132, :64])
    import onnxruntime

    for direction, source in (("down", image), ("up", image[:16, :32])):
        graph = finish(kept_trace(network, direction, 19), direction, ExportConfig())
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
    with pytest.raises(UserError, match="quality: expected two whole numbers of 1 to 100") as caught:
        TrainConfig(quality=quality)
    assert words in str(caught.value)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_campaigns_can_start(scale: int, tmp_path: Path, forest: Image8) -> None:
    """The file resolves, and a lossless flat network starts it; a step in bf16 tells what one in fp32 tells."""
    found = resolve(CONFIGS / f"x{scale}-codec.toml", {"data": {"train": "a"}})
    plan = found.train.coding_plan()
    assert plan is not None and plan.codec == "jpeg" and plan.clean == 0.2 and found.model.untie
    config = replace(found.train, crop=32, batch=2)
    crops = Crops([forest], [], config.crop, config.batch, 0, 0.0, "forest")
    tied = preset("flat-edge", scale)
    network = randomise(build_network(tied), 0, 0.01)
    moved = Checkpoint(tied, {name: tensor.clone() for name, tensor in network.state_dict().items()})
    for head in network.sampling_heads():
        head.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in head.state_dict().items()})
    start = Checkpoint(tied, network.state_dict())
    assert start.config.deform and not found.model.deform  # offsets that are still zero may be left out
    steps = []
    for precision in ("bf16", "fp32"):
        trainer = Trainer(found.model, replace(config, precision=precision), crops, None, tmp_path)
        trainer.start_from(start)
        steps.append(take(trainer))
        assert trainer.skipped == 0
    with pytest.raises(UserError, match="of another architecture"):
        trainer.start_from(moved)
    trainer.start_from(load_checkpoint(CHECKPOINTS / f"x{scale}.pth"))
    for name in ("hr", "lr", "bits"):
        assert steps[0][name] == pytest.approx(steps[1][name], rel=0.02)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_rivals_are_trained_as_the_campaign_is(scale: int) -> None:
    """Weights of likeness are sought for each network; behind bicubic there are none to seek."""
    ours, decoder, irn = (
        resolve(CONFIGS / f"x{scale}-codec{rival}.toml", {"data": {"train": "a"}}) for rival in ("", "-decoder", "-irn")
    )
    assert (decoder.train.downscaler, irn.train.downscaler) == ("bicubic", "network")
    sought = {"lambda_rate", "lambda_l", "lambda_chroma", "lambda_dots"}
    for rival in (decoder, irn):
        differing = {name for name, value in vars(rival.train).items() if value != getattr(ours.train, name)}
        assert differing <= sought | {"downscaler"} and rival.model.untie and rival.model.scale == scale
    assert decoder.model == replace(ours.model, luma_details=False, knows_file=False) and irn.model.preset == "irn-edge"
    assert not any(getattr(decoder.train, name) for name in sought)
    spent = [sum(describe(found.model).macs.values()) for found in (ours, irn)]
    assert spent[1] == pytest.approx(spent[0], rel=0.1)


def test_a_codec_run_validates_through_real_files(tmp_path: Path, courtyard: Image8) -> None:
    """The row of val.csv against the systems of a rate-distortion measurement."""
    small = np.asarray(Image.fromarray(courtyard).resize((128, 64)))
    (tmp_path / "val").mkdir()
    Image.fromarray(small).save(tmp_path / "val" / "a.png")
    crops = Crops([small], [], 16, 2, 0, 0.0, "courtyard")
    for bicubic in (False, True):
        validation = CodecValidation(tmp_path / "val", 2, Coder("jpeg"), bicubic)
        out = tmp_path / f"run-{bicubic}"
        out.mkdir()
        trainer = Trainer(tiny(2), replace(JPEG, steps=1), crops, validation, out)
        trainer.run()
        (row,) = read_csv(out / "val.csv")
        found = {name: float(value) for name, value in row.items()}
        network = load_checkpoint(out / "last.pth").build()
        ours = Decoder(network, "n") if bicubic else Network(network, "n")
        curves = measure([Interpolation("bicubic", 2), ours], {"a": small}, [Coder("jpeg")], LADDER, ssim=False)
        pair, mine = (
            {p.quality: p for p in c.points} for c in curves if c.codec == "JPEG 4:2:0" and c.system != DIRECT
        )
        assert found["ws_psnr_y"] == pytest.approx(np.mean([mine[q].psnr_y for q in (50, 75, 90, 95)]), abs=1e-3)
        assert found["gain_90"] == pytest.approx(mine[90].psnr_y - pair[90].psnr_y, abs=1e-3)
        assert found["bits"] == pytest.approx(np.mean([mine[q].bits for q in (50, 75, 90, 95)]), abs=1e-4)
        lr, hr = ours(small)
        assert found["clean_y"] == pytest.approx(ws_psnr(luma(hr), luma(small)), abs=1e-3)
        assert (found["lr_psnr"] > 90) == bicubic
        at = np.interp(
            [np.log(mine[q].bits) for q in (50, 75, 90, 95)],
            *np.transpose(sorted((np.log(p.bits), p.psnr_y) for p in pair.values())),
        )
        assert found["gain_bytes"] == pytest.approx(found["ws_psnr_y"] - at.mean(), abs=0.05)
        assert trainer.best == pytest.approx(found["gain_bytes"], abs=1e-4)
