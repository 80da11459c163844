"""Sessions over engines: what is refused before a GPU is asked for, the one line without a GPU, and, on a GPU made of
host memory, what happens to buffers, streams and graphs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
from engine_files import HostGpu, build_small, install, no_gpu

from engines.kinds import kinds_of
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import import_tensorrt
from engines.panorama.rescale_image import downscale_image
from engines.runtimes.base import Session, TensorSpec
from engines.session import open_session
from engines.support.arrays import Image8, to_tensor
from engines.support.errors import UserError

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    for path in (built, built.with_name("down.engine.json"), built.with_name("down.onnx")):
        copy(path, tmp_path)
    return tmp_path / "down.engine"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    gpu = HostGpu()
    install(monkeypatch, gpu, import_tensorrt("tensorrt_rtx", "test"))
    return gpu


def edit(engine: Path, **changes: Any) -> None:
    """Change entries of the sidecar."""
    path = engine.with_name(engine.name + ".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(engine: Path, plugins: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        open_session(engine, plugins=plugins)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LIBRARY = {"file": "libdinn360_trt.so", "sha256": "a" * 64, "plugins": ["DeformConv2d 1"], "serialized": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime_version": "1.6.0.1"}, "expected TensorRT-RTX 1.6.0.1 and no other, found 1.7"),
        ({"runtime_version": "2.0", "version_compatible": True}, "expected TensorRT-RTX 2.0 or a later one of that"),
        ({"plugin_library": LIBRARY}, r"expected the plugins DeformConv2d 1 of libdinn360_trt\.so, found none loaded"),
        ({"plugin_library": {**LIBRARY, "serialized": True}}, "a session runs no code out of an engine file"),
        ({"engine_sha256": "b" * 64}, r"expected the engine of down\.engine\.json \(sha256 bbbbbbbbbbbb\), found"),
        ({"format": "onnx"}, "expected an engine's sidecar"),
        ({"profile": None}, "profile: expected a table, found None"),
        ({"runtime": "tvm"}, "runtime: expected tensorrt or tensorrt_rtx, found 'tvm'"),
        ({"runtime_version": "x"}, "runtime_version: expected a version such as 10.3.0, found 'x'"),
        ({"engine_sha256": 5}, "engine_sha256: expected a text, found 5"),
        ({"tile": []}, r"tile: expected a list of 2, found 0 values"),
        ({"layers": {"conv": -1}}, "layers: expected counts of 0 or more"),
        ({"colour": 1}, "found the unknown key 'colour'"),
        ({"optional": [{"name": "a", "dtype": "int64", "shape": [4], "values": [1]}]}, "a value for each element"),
    ],
)
def test_what_needs_no_gpu_to_be_refused(engine: Path, changes: dict[str, Any], message: str) -> None:
    edit(engine, **changes)
    assert re.search(message, refusal(engine))


def test_missing_files_and_libraries(engine: Path, tmp_path: Path) -> None:
    edit(engine, plugin_library=LIBRARY)
    assert "expected a plugin library (libdinn360_trt.so), found no such file" in refusal(engine, tmp_path / "none.so")
    (tmp_path / "libdinn360_trt.so").write_bytes(b"no library")
    assert "TensorRT-RTX 1.7" in refusal(engine) and "cannot load it" in refusal(engine)
    engine.with_name("down.engine.json").write_text("{")
    assert "down.engine.json: expected JSON" in refusal(engine)
    engine.with_name("down.engine.json").unlink()
    assert "expected its sidecar down.engine.json beside it, found none" in refusal(engine)
    with pytest.raises(UserError, match="provider: expected none for an engine, found 'CUDA'"):
        open_session(engine, provider="CUDA")


def test_a_runtime_that_is_not_installed(engine: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    assert "needs the package tensorrt, which is not installed (on a Jetson it comes with JetPack" in refusal(engine)


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_without_a_gpu_there_is_one_clear_line(engine: Path) -> None:
    assert f"{engine} needs an NVIDIA GPU and its driver; found none (" in refusal(engine)


def test_a_gpu_that_the_engine_was_not_built_for(engine: Path, gpu: HostGpu) -> None:
    edit(engine, compute_capabilities=["8.9"])
    assert "expected a GPU of compute capability 8.9 (rtx), found 8.6 (Host GPU)" in refusal(engine)
    assert gpu.memory == {}


def test_a_session_describes_its_engine(engine: Path, gpu: HostGpu) -> None:
    with open_session(engine) as session:
        assert session.inputs == (TensorSpec("hr", (None, 3, None, None), np.dtype("float32")),)
        assert [spec.name for spec in session.outputs] == ["lr"]
        assert session.metadata["scale"] == "2"
        assert session.runtime.startswith("TensorRT-RTX 1.7") and session.runtime.endswith("Host GPU fp32")


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_the_same_pixels_as_onnx_runtime(engine: Path, gpu: HostGpu, forest: Image8, runtime: str) -> None:
    edit(engine, runtime=runtime, runtime_version="10.3" if runtime == "tensorrt" else "1.7.1.116")
    images = [forest[:64, :128], forest[64:192, :256], forest[64:192, 256:512], forest[:64, 128:256]]
    with open_session(engine) as session, open_session(engine.with_suffix(".onnx"), threads=1) as graph:
        for image in images * 2:
            ours, theirs = downscale_image(session, image), downscale_image(graph, image)
            assert np.abs(ours.astype(int) - theirs).max() <= 1 and (ours == theirs).mean() > 0.9
    assert gpu.memory == {}, "everything is freed"


def run(session: Session, image: Image8) -> np.ndarray:
    return session.run(hr=to_tensor(image))["lr"]


def test_a_repeated_shape_becomes_a_graph(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    small, large = forest[:64, :128], forest[:128, :256]
    with open_session(engine) as session:
        expected = {id(image): run(session, image) for image in (small, large)}
        assert gpu.recorded == 0
        for image, recorded, launches in ((large, 1, 1), (large, 1, 2), (small, 1, 2), (small, 2, 3), (small, 2, 4)):
            assert np.array_equal(run(session, image), expected[id(image)])
            assert (gpu.recorded, gpu.launches) == (recorded, launches)
        assert gpu.runs == 7
        other = forest[200:264, 300:428]  # the graph takes new pixels, not the recorded ones
        assert not np.array_equal(run(session, other), expected[id(small)])


def test_an_engine_that_cannot_be_recorded_runs_plainly(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    gpu.records = False
    with open_session(engine) as session:
        results = [run(session, forest[:64, :128]) for _ in range(4)]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert gpu.launches == 0 and gpu.runs == 4


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_an_input_that_may_be_left_out(engine: Path, gpu: HostGpu, forest: Image8, runtime: str) -> None:
    version = "10.3.0" if runtime == "tensorrt" else "1.7.1.116"
    default = {"name": "brighter", "dtype": "float32", "shape": [1], "values": [0.25]}
    x = to_tensor(forest[:64, :128])
    with open_session(engine) as session:
        plain = session.run(hr=x)["lr"]
    edit(engine, runtime=runtime, runtime_version=version, optional=[default])
    with open_session(engine) as session:
        assert session.optional == (TensorSpec("brighter", (1,), np.dtype("float32")),)
        for _ in range(3):  # plainly, recorded, replayed
            assert np.array_equal(session.run(hr=x)["lr"], plain + np.float32(0.25))
            brighter = session.run(hr=x, brighter=np.ones(1, np.float32))["lr"]
            assert np.array_equal(brighter, plain + np.float32(1))
    edit(engine, optional=[{**default, "values": ["much"]}])
    assert "optional[0].values[0]: expected a number, found 'much'" in refusal(engine)


def test_buffers_are_reused_and_results_belong_to_the_caller(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    with open_session(engine) as session:
        first = run(session, forest[:128, :256])
        kept, addresses = first.copy(), set(gpu.memory)
        run(session, forest[:64, :128])
        run(session, forest[128:256, :256])
        assert set(gpu.memory) == addresses and len(addresses) == 4
        assert np.array_equal(first, kept)


def test_sizes_outside_the_profile(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    with open_session(engine) as session:
        for image in (forest[:62, :128], forest[:512, :512]):
            with pytest.raises(UserError, match=r"expected hr 1x3x64x128 to 1x3x256x512, tuned for .*, found 1x3x"):
                run(session, image)
        assert run(session, forest[:64, :128]).shape == (1, 3, 32, 64)


def test_threads_wait_for_each_other(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    crops = [forest[8 * i : 8 * i + 64 * (1 + i % 2), :128] for i in range(12)]
    with open_session(engine) as session:
        expected = [run(session, crop) for crop in crops]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda crop: run(session, crop), crops))
    assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


def test_a_full_memory(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    with open_session(engine) as session:
        result = run(session, forest[:64, :128])
        gpu.room = 200_000
        with pytest.raises(UserError, match="CUDA: error 2"):
            run(session, forest[:128, :256])
        assert np.array_equal(run(session, forest[:64, :128]), result), "the next call starts afresh"
    assert gpu.memory == {}


def test_a_closed_session(engine: Path, gpu: HostGpu) -> None:
    session = open_session(engine)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.run(hr=np.zeros((1, 3, 64, 128), np.float32))


def test_what_tensorrt_rtx_compiled_is_kept(engine: Path, gpu: HostGpu) -> None:
    cache = engine.with_name("down.engine.cache")
    open_session(engine).close()
    assert cache.read_bytes() == b"kernel"
    open_session(engine).close()
    assert cache.read_bytes() == b"kernelkernel"


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_kinds_of_sessions_and_what_they_lack(engine: Path) -> None:
    first, second = kinds_of(engine.parent, "down")
    assert (first.path.name, first.provider, first.missing) == ("down.onnx", "CPU", "")
    with first.open(threads=1) as session:
        assert session.metadata["scale"] == "2"
    assert second.path == engine and "needs an NVIDIA GPU and its driver; found none" in second.missing
    assert [kind.path.name for kind in kinds_of(engine.parent, "up")] == ["up.onnx"]


def test_an_engine_that_this_machine_can_open(engine: Path, gpu: HostGpu, forest: Image8) -> None:
    second = kinds_of(engine.parent, "down")[-1]
    assert (second.path, second.missing) == (engine, "")
    with second.open() as session:
        assert session.profile is not None and session.profile.maximum == (1, 3, 256, 512)
    edit(engine, compute_capabilities=["8.9"])
    assert "expected a GPU of compute capability 8.9" in kinds_of(engine.parent, "down")[-1].missing


def test_without_cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UserError, match=r"x needs the package cuda-bindings, which is not installed \(pip install"):
        cuda.find_device("x")
