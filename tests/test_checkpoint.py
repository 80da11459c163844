"""Checkpoints survive the way to disk and back; nothing else is taken for one, and nothing is executed."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import build, picture, tiny
from safetensors import safe_open
from safetensors.torch import save_file

from dinn360.checkpoint import FORMAT, VERSION, Checkpoint, digest_of, load_checkpoint, save_checkpoint
from engines.support.errors import UserError

SUFFIXES = [".pth", ".safetensors"]


def example(scale: int = 2) -> Checkpoint:
    network = build(tiny(scale))
    return Checkpoint(network.config, network.state_dict(), {"data": "forest", "steps": 3, "figures": {"a": 1.5}})


def content(**changes: Any) -> dict[str, Any]:
    """What a .pth file holds, with changes."""
    checkpoint = example()
    values = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.to_dict(),
        "weights": dict(checkpoint.weights),
        "provenance": {},
    }
    return {**values, **changes}


def refusal(path: Path) -> str:
    """The message of the refusal to load and build `path`: one line that names the file."""
    with pytest.raises(UserError) as caught:
        load_checkpoint(path).build()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    checkpoint = example(4)
    path = tmp_path / f"x4{suffix}"
    save_checkpoint(path, checkpoint)
    again = load_checkpoint(path)
    assert again.config == checkpoint.config and again.provenance == checkpoint.provenance
    assert list(again.weights) == list(checkpoint.weights) or suffix == ".safetensors"
    network = again.build()
    assert not network.training
    x = picture(8, 16)
    with torch.no_grad():
        assert torch.equal(network.upscale(x), build(tiny(4)).upscale(x))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_loads_with_weights_only(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pth", example())
    values = torch.load(tmp_path / "a.pth", weights_only=True)
    assert values["format"] == FORMAT and values["version"] == VERSION and set(values) == {*content(), "digest"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_no_checkpoints(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    assert str(path) in refusal(path) and "no such" in refusal(path)
    path.mkdir()
    assert str(path) in refusal(path)
    path.rmdir()
    save_checkpoint(path, example())
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"x",
        whole[: len(whole) // 2],
        whole[:-1],
        bytes(len(whole)),
        b"\x89PNG\r\n" + whole,
    ):
        path.write_bytes(damaged)
        assert str(path) in refusal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_ends_in_a_traceback(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    save_checkpoint(path, example())
    whole = path.read_bytes()
    source = random.Random(0)
    damaged = [source.randbytes(source.randrange(1, 80)) for _ in range(60)]
    damaged += [b"\x80\x02" + source.randbytes(source.randrange(1, 60)) for _ in range(60)]
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(3):
            changed[source.randrange(3000)] = source.randrange(256)
        damaged.append(bytes(changed))
    for data in damaged:
        path.write_bytes(data)
        try:
            load_checkpoint(path).build()  # a damaged weight is still a weight
        except UserError as error:
            assert "\n" not in str(error)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_executed(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    path = tmp_path / "x.pth"
    pickle.loads(pickle.dumps(Malicious(proof)))
    assert proof.exists()  # it would work
    proof.rmdir()
    path.write_bytes(pickle.dumps(Malicious(proof)))
    refusal(path)
    torch.save(content(provenance=Malicious(proof)), path)
    assert str(path) in refusal(path)
    torch.save(content(provenance=Malicious(proof)), path, _use_new_zipfile_serialization=False)
    refusal(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state_dict": {}, "epoch": 3}, ("no format field",)),
        ([1, 2], ("list",)),
        (torch.zeros(3), ("Tensor",)),
        (content(format="dinn360-training"), ("'dinn360-training'",)),
        (content(version=2), ("version 1", "2")),
        (content(weights=[1]), ("config, weights and provenance",)),
        ({**content(weights=None), 5: 6}, ("config, weights and provenance",)),
        (content(weights={"a": "b"}), ("tensors by name",)),
        (content(config={**content()["config"], "colour": 1}), ("colour",)),
        (content(config={**content()["config"], "scale": 3}), ("scale", "3")),
        (content(config={"scale": 2}), ("levels",)),
        (content(config={**content()["config"], "levels": 7}), ("model config",)),
        (content(config={**content()["config"], "levels": [{"blocks": 1}]}), ("model config",)),
    ],
)
def test_another_content_is_refused(tmp_path: Path, values: Any, words: tuple[str, ...]) -> None:
    path = tmp_path / "x.pth"
    torch.save(values, path)
    message = refusal(path)
    assert str(path) in message and all(word in message for word in words)


@pytest.mark.parametrize("header", ["[]", "{", '{"format": "other"}', json.dumps({"format": FORMAT, "version": 9})])
def test_another_safetensors_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"dinn360": header})
    assert str(path) in refusal(path)
    save_file({"a": torch.zeros(1)}, path)
    assert "no format field" in refusal(path)


@pytest.mark.parametrize(
    "weights", [example(4).weights, {}, {"a": torch.zeros(1)}], ids=["of another scale", "none", "foreign"]
)
def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path, weights: dict[str, Any]) -> None:
    path = tmp_path / "x.pth"
    save_checkpoint(path, Checkpoint(tiny(2), weights))
    assert "do not fit" in refusal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        save_checkpoint(tmp_path / "none" / f"x{suffix}", example())
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match="found a folder"):
        save_checkpoint(tmp_path / f"folder{suffix}", example())
    path = tmp_path / f"x{suffix}"
    save_checkpoint(path, example())
    before = path.read_bytes()
    bad = example()
    bad.provenance["what"] = object()  # neither JSON nor loadable
    if suffix == ".safetensors":
        with pytest.raises(TypeError):
            save_checkpoint(path, bad)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_are_seen(tmp_path: Path, suffix: str) -> None:
    """Not one bit of the weights may change unseen; torch.load alone sees none of it."""
    path = tmp_path / f"x{suffix}"
    checkpoint = example()
    save_checkpoint(path, checkpoint)
    whole = path.read_bytes()
    for name in list(checkpoint.weights)[::7]:
        numbers = checkpoint.weights[name].numpy().tobytes()
        changed = bytearray(whole)
        changed[whole.index(numbers) + len(numbers) // 2] ^= 1
        path.write_bytes(changed)
        assert "is damaged" in refusal(path)
        if suffix == ".pth":
            torch.load(path, weights_only=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_weights_in_a_whole_file_are_seen(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    save_checkpoint(path, example())
    weights = {name: tensor.clone() for name, tensor in example().weights.items()}
    next(iter(weights.values())).view(-1)[0] += 1e-3
    if suffix == ".pth":
        torch.save({**torch.load(path, weights_only=True), "weights": weights}, path)
    else:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        save_file(weights, path, metadata=header)
    assert "is damaged: config or weights are not those that were written" in refusal(path)


def test_files_from_before_the_digest_load(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "x.pth")
    load_checkpoint(tmp_path / "x.pth").build()
    torch.save(content(), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    load_checkpoint(tmp_path / "x.pth").build()


@pytest.mark.parametrize("name", ["x2", "x4", "x8"])
def test_the_released_checkpoints_carry_a_digest(name: str) -> None:
    path = Path(__file__).parents[1] / "checkpoints" / f"{name}.pth"
    values = torch.load(path, weights_only=True)
    assert values["digest"] == digest_of(values["config"], values["weights"])
    load_checkpoint(path).build()


def levels(**changes: Any) -> dict[str, Any]:
    config = content()["config"]
    return {**config, "levels": [{**level, **changes} for level in config["levels"]]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (levels(width=10**9), "levels[0].width: expected a whole number of 1 to 1024, found 1000000000"),
        (levels(blocks=10**30), "levels[0].blocks: expected a whole number, found 1000"),
        (levels(blocks=1024), "do not fit its config: model config: expected a network of at most"),
        (levels(width=1024), "do not fit its config: model config: expected a network of at most"),
        (levels(width="8"), "levels[0].width: expected a whole number, found '8'"),
        ({**content()["config"], "window": 2**40}, "window"),
        ({**content()["config"], "deform": "yes"}, "deform: expected true or false, found 'yes'"),
    ],
)
def test_a_network_that_is_too_large_is_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    torch.save(content(config=config), tmp_path / "x.pth")
    assert words in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**12),
        torch.empty(10**12, device="meta"),
        torch.zeros(3).to_sparse(),
        torch.zeros(3, dtype=torch.cfloat),
    ],
    ids=["stretched", "meta", "sparse", "complex"],
)
def test_weights_that_are_no_plain_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save(content(weights={"a": tensor}), tmp_path / "x.pth")
    assert "x.pth: " in refusal(tmp_path / "x.pth")


def test_saved_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        save_checkpoint(tmp_path / f"x{suffix}", example())
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
