"""The kinds of cases: which files are damaged in which way, and which commands read them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fuzz.corpus import ENGINE, METADATA, TILES, XMP, Corpus, whole_image, whole_video
from fuzz.mutations import TEXTS, changed, damaged, damaged_inside, strange, with_checksums
from fuzz.oracle import Case, Command

Kind = Callable[[Corpus], st.SearchStrategy[Case]]


def engines(*arguments: object, **rest: Any) -> Command:
    from engines.cli import main

    return Command(main, tuple(map(str, arguments)), **rest)


def dinn360(*arguments: object, **rest: Any) -> Command:
    from dinn360.cli import main

    return Command(main, tuple(map(str, arguments)), **rest)


def export(*arguments: object, **rest: Any) -> Command:
    from export.cli import main

    return Command(main, tuple(map(str, arguments)), **rest)


def _rescale(command: str, source: str, target: str, model: str) -> Command:
    return engines(command, source, target, "--model", model, "--threads", 1, makes={target: whole_image})


def images(corpus: Corpus) -> st.SearchStrategy[Case]:
    """An image of any format through `downscale`, or in a folder through `data check`."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(sorted(corpus.images)))
        data = draw(damaged(corpus.images[name]))
        if name.endswith(".png") and draw(st.booleans()):
            data = with_checksums(data)
        files = {name: data, "down.onnx": corpus.graphs["down.onnx"]}
        if draw(st.integers(0, 9)) == 0:
            return Case({f"photos/{name}": data}, (dinn360("data", "check", "photos"),))
        target = draw(st.sampled_from(["out.png", "out.png", "out.webp", "out.tif"]))
        return Case(files, (_rescale("downscale", name, target, "down.onnx"),))

    return case()


def lr_images(corpus: Corpus) -> st.SearchStrategy[Case]:
    """What `downscale` made, with another record, XMP packet, EXIF or other bytes, through `upscale`."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(sorted(corpus.lr)))
        data = corpus.lr[name]
        record = {"format": 1, "scale": 2, "model": "ab" * 32, "width": 32, "height": 16, "bits": 8, "pixels": "c" * 64}
        how = draw(st.integers(0, 3))
        if how == 0:
            data = draw(damaged(data))
            data = with_checksums(data) if name == "lr.png" and draw(st.booleans()) else data
        elif how == 1:
            name, data = "lr.png", _png(corpus, record=json.dumps(draw(changed(record))))
        else:
            text = draw(damaged((_with_record(record) if draw(st.booleans()) else XMP).encode()))
            data, name = (_png(corpus, xmp=text), "lr.png") if how == 2 else (_jpeg(corpus, text), "lr.jpg")
        files = {name: data, "up.onnx": corpus.graphs["up.onnx"]}
        return Case(files, (_rescale("upscale", name, "hr.png", "up.onnx"),))

    return case()


def _with_record(record: dict[str, Any]) -> str:
    from xml.sax.saxutils import escape

    value = escape(json.dumps(record), {'"': "&quot;"})
    node = f'<rdf:Description rdf:about="" xmlns:dinn360="urn:dinn360:record" dinn360:record="{value}"/>'
    return XMP.replace("</rdf:RDF>", node + "</rdf:RDF>")


def _png(corpus: Corpus, record: str | None = None, xmp: bytes | None = None) -> bytes:
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    if record is not None:
        info.add_text("DINN360", record.encode("ascii", "backslashreplace"))
    if xmp is not None:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    out = io.BytesIO()
    Image.fromarray(corpus.pixels[::2, ::2]).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def _jpeg(corpus: Corpus, xmp: bytes) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(corpus.pixels[::2, ::2]).save(out, "JPEG", xmp=xmp)
    return out.getvalue()


def _read_graph(draw: st.DrawFn, corpus: Corpus, data: bytes, name: str) -> Case:
    """A graph through one of the commands that read graphs."""
    source = "rgb.png" if name == "down.onnx" else "lr.png"
    files = {name: data, source: corpus.images["rgb.png"] if source == "rgb.png" else corpus.lr["lr.png"]}
    command = "downscale" if name == "down.onnx" else "upscale"
    tile = draw(st.sampled_from(["auto", "none", "4x8"]))
    triton = ("triton", name, "--out", "models")
    options: list[Command] = [
        engines(
            command, source, "out.png", "--model", name, "--threads", 1, "--tile", tile, makes={"out.png": whole_image}
        ),
        engines("inspect", name),
        engines("inspect", name, "--json"),
        engines("inspect", name, "--layers"),
        engines("build", "--onnx", name, "--target", "jetson-agx-orin", "--print-trtexec", "--tensorrt", "10.3"),
        engines(*triton, makes={"models": lambda path: next(path.rglob("model.onnx"))}),
        export("estimate", "--onnx", name, "--target", "h100", "--size", "256x128"),
    ]
    chosen = draw(st.lists(st.sampled_from(options), min_size=1, max_size=2, unique_by=lambda c: c.arguments[:2]))
    return Case(files, tuple(chosen))


def graphs(corpus: Corpus) -> st.SearchStrategy[Case]:
    """A damaged .onnx file."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(["down.onnx", "up.onnx"]))
        return _read_graph(draw, corpus, draw(damaged(corpus.graphs[name])), name)

    return case()


def labels(corpus: Corpus) -> st.SearchStrategy[Case]:
    """A graph whose metadata say something else."""
    import onnx

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(["down.onnx", "up.onnx"]))
        model = onnx.load_from_string(corpus.graphs[name])
        metadata = {**METADATA, "direction": name[:-5], **TILES}
        for key in draw(st.lists(st.sampled_from(sorted(metadata)), min_size=1, max_size=3, unique=True)):
            value = draw(st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=10), st.just(b"\xff\xfe")))
            if value is None:
                del metadata[key]
            else:
                metadata[key] = value
        del model.metadata_props[:]
        marks = {}
        for key, value in metadata.items():
            if isinstance(value, bytes):  # protobuf writes no such text: a mark of the same length, replaced below
                marks[f"~{len(marks)}".encode()] = value
                value = list(marks)[-1].decode()
            model.metadata_props.add(key=key, value=value.encode("utf-8", "replace").decode())
        data = model.SerializeToString()
        for mark, value in marks.items():
            data = data.replace(mark, value)
        return _read_graph(draw, corpus, data, name)

    return case()


def checkpoints(corpus: Corpus) -> st.SearchStrategy[Case]:
    """Damaged checkpoints of both sorts, and whole ones whose config or provenance says something else."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(sorted(corpus.checkpoint)))
        how = draw(st.integers(0, 3))
        if how == 0:
            data = draw(damaged(corpus.checkpoint[name]))
        elif how == 1:
            name, data = "x2.pth", draw(damaged_inside(corpus.checkpoint["x2.pth"]))
        else:
            data = _other_checkpoint(draw, corpus, name)
        if draw(st.integers(0, 4)) == 0:
            return Case({name: data}, (dinn360("info", "--ckpt", name, "--size", "64x32"),))
        files = {name: data, "in.png": corpus.images["rgb.png"]}
        command = dinn360("downscale", "in.png", "out.png", "--ckpt", name, makes={"out.png": whole_image})
        return Case(files, (command,))

    return case()


def _other_checkpoint(draw: st.DrawFn, corpus: Corpus, name: str) -> bytes:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save

    whole = torch.load(io.BytesIO(corpus.checkpoint["x2.pth"]), weights_only=True)
    if name.endswith(".pth"):
        plain = {key: value for key, value in whole.items() if key != "weights"}
        content = draw(changed(plain))
        content.setdefault("weights", dict(whole["weights"]))
        if draw(st.integers(0, 3)) == 0:
            weights = content["weights"]
            key = draw(st.sampled_from(sorted(whole["weights"])))
            if isinstance(weights, dict):
                weights[key] = draw(st.sampled_from(_tensors()))
        out = io.BytesIO()
        torch.save(content, out)
        return out.getvalue()
    with safe_open(str(corpus.folder / name), framework="pt") as file:
        header = json.loads(file.metadata()["dinn360"])
    text = draw(st.one_of(changed(header).map(json.dumps), st.sampled_from(TEXTS), strange().map(json.dumps)))
    text = text.encode("utf-8", "replace").decode()
    return save(whole["weights"], metadata={"dinn360": text})


def _tensors() -> list[Any]:
    import torch

    small = torch.zeros(1)
    return [
        *(small, small.long(), torch.zeros(0), torch.tensor(float("nan")), small.to_sparse(), small.bool()),
        *(small.expand(10**9), small.expand(10**5, 10**5), torch.empty(10**12, device="meta"), small.cfloat(), "text"),
        *(torch.quantize_per_tensor(small, 0.1, 0, torch.quint8), small.to(torch.float8_e4m3fn)),
    ]


def sidecars(corpus: Corpus) -> st.SearchStrategy[Case]:
    """An engine's sidecar with other values, through everything that reads one."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        if draw(st.integers(0, 4)):
            data = json.dumps(draw(changed(corpus.sidecar))).encode("utf-8", "replace")
        else:
            data = draw(damaged(json.dumps(corpus.sidecar, indent=2).encode()))
        files = {"down.engine": ENGINE, "down.engine.json": data}
        triton = ("triton", "down.engine", "--out", "models")
        command = draw(
            st.sampled_from(
                [
                    engines("inspect", "down.engine"),
                    engines("inspect", "down.engine", "--json"),
                    engines("inspect", "down.engine", "--layers"),
                    engines(*triton, makes={"models": lambda path: next(path.rglob("model.plan"))}),
                    _rescale("downscale", "in.png", "out.png", "down.engine"),
                ]
            )
        )
        return Case({**files, "in.png": corpus.images["rgb.png"]}, (command,))

    return case()


def run_configs(corpus: Corpus) -> st.SearchStrategy[Case]:
    """The TOML file of a run: the folder of data is empty, so that no training begins."""
    import tomllib

    import tomli_w

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        whole = corpus.run["run/config.toml"]
        tables = tomllib.loads(whole.decode())
        tables["data"]["train"] = "none"
        if draw(st.integers(0, 2)):
            try:
                data = tomli_w.dumps(draw(changed(tables))).encode("utf-8", "replace")
            except TypeError:  # TOML has no null
                data = draw(damaged(tomli_w.dumps(tables).encode()))
        else:
            data = draw(damaged(tomli_w.dumps(tables).encode()))
        return Case({"run.toml": data}, (dinn360("train", "--config", "run.toml", "--out", "out", "--data", "none"),))

    return case()


def runs(corpus: Corpus) -> st.SearchStrategy[Case]:
    """A finished training run of which one file is damaged, resumed."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        files = dict(corpus.run)
        names = [name for name in sorted(files) if name.startswith("run/") and name != "run/config.toml"]
        name = draw(st.sampled_from([*names, "run/state.pth", "run/state.pth"]))
        pickled = name.endswith(".pth")
        files[name] = draw((damaged_inside if pickled and draw(st.booleans()) else damaged)(files[name]))
        if draw(st.booleans()):
            files.pop("run/state.previous.pth", None)
        leaves = ("run", "data")
        options = ("--data", "data", "--steps", 2, "--threads", 1)
        return Case(files, (dinn360("train", "--resume", "--out", "run", *options, leaves=leaves),))

    return case()


def books(corpus: Corpus) -> st.SearchStrategy[Case]:
    """The manifest of a batch whose files are all there, and lists of images."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        lines = [json.dumps(draw(changed(line))) for line in corpus.manifest]
        text = "\n".join(lines).encode("utf-8", "replace")
        text = text if draw(st.booleans()) else draw(damaged(text))
        picture = corpus.images["rgb.png"]
        if draw(st.integers(0, 3)) == 0:
            source = b"train_dict = {'a': 'bad', 'b': 'worse'}\nsuntest_dict = {'b': 1}\n"
            name, option = draw(
                st.sampled_from([("list.py", "--exclude"), ("list.txt", "--exclude"), ("l.txt", "--names")])
            )
            files = {name: draw(damaged(source)), "photos/a.png": picture, "photos/c.png": corpus.images["alpha.png"]}
            return Case(files, (dinn360("data", "check", "photos", option, name),))
        files = {f"{folder}/{name}.png": picture for folder in ("photos", "out") for name in "ab"}
        book = draw(st.sampled_from(["out/manifest.jsonl", "out/.manifest.journal"]))
        files |= {book: text, "down.onnx": corpus.graphs["down.onnx"]}
        leaves = ("out/manifest.jsonl", "out/.manifest.journal")
        return Case(files, (engines("batch", "photos", "out", "--model", "down.onnx", leaves=leaves),))

    return case()


def videos(corpus: Corpus) -> st.SearchStrategy[Case]:
    """Damaged videos in both directions."""

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(sorted(corpus.videos)))
        data = draw(damaged(corpus.videos[name]))
        direction, target = ("up", "out.mp4") if name == "lr.mkv" else ("down", "out.mkv")
        model = f"{direction}.onnx"
        command = engines(
            f"{direction}scale-video", name, target, "--model", model, "--threads", 1, makes={target: whole_video}
        )
        return Case({name: data, model: corpus.graphs[model]}, (command,))

    return case()


def arguments(corpus: Corpus) -> st.SearchStrategy[Case]:
    """Strange names and numbers on the command line."""
    import click

    from engines.cli import main

    @st.composite
    def case(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(["downscale", "upscale", "inspect", "build", "triton"]))
        text = st.one_of(
            st.sampled_from([t for t in TEXTS if "\0" not in t]),
            st.sampled_from(
                ["5000", "-1", "1000000000", "x" * 300 + ".png", "a/" * 3000, "none/none", ".", "/", "*", "[", "5x5"]
            ),
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8),
        )
        usual: dict[str, list[object]] = {
            "downscale": ["in.png", "out.png", "--model", "down.onnx"],
            "upscale": ["in.png", "out.png", "--model", "up.onnx"],
            "inspect": ["down.onnx"],
            "build": ["--onnx", "down.onnx", "--target", "jetson-agx-orin", "--print-trtexec", "--tensorrt", "10.3"],
            "triton": ["down.onnx", "--out", "models"],
        }
        words = [str(word) for word in usual[name]]
        command = main.get_command(click.Context(main), name)
        assert command is not None
        options = [p for p in command.params if isinstance(p, click.Option) and not p.is_flag]
        for _ in range(draw(st.integers(1, 2))):
            if not options or draw(st.booleans()):
                words[draw(st.integers(0, len(words) - 1))] = draw(text)
            else:
                words += [draw(st.sampled_from(options)).opts[0], draw(text)]
        files = {"in.png": corpus.images["rgb.png"], **corpus.graphs}
        leaves = tuple(part for word in words for part in (word, word.partition("/")[0]) if part)
        return Case(files, (engines(name, *words, leaves=leaves),))

    return case()


# Shares of a long run, of the time that a case takes.
KINDS: dict[str, tuple[Kind, int]] = {
    "images": (images, 30),
    "lr_images": (lr_images, 10),
    "graphs": (graphs, 12),
    "labels": (labels, 8),
    "checkpoints": (checkpoints, 8),
    "sidecars": (sidecars, 12),
    "run_configs": (run_configs, 8),
    "runs": (runs, 2),
    "books": (books, 4),
    "videos": (videos, 4),
    "arguments": (arguments, 2),
}
