"""What the released models for codecs promise: a piece of a shipped panorama through JPEG files of four qualities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS
from exported import ROOT, checkpoint
from PIL import Image

from dinn360.checkpoint import load_checkpoint
from dinn360.codec.coders import Coder
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.validate import round_trip
from dinn360.evaluation.validate_codec import CodecFigures, CodecValidation
from engines.panorama.coding import Survives

NAMES = sorted(path.stem for path in (ROOT / "checkpoints").glob("*-codec.pth"))
GAINS = {"x2-codec": 1.0, "x4-codec": 0.5}  # dB over the bicubic pair at equal bytes, less than was measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("panoramas")
    with Image.open(ASSETS / "courtyard.png") as image:
        image.convert("RGB").crop((256, 128, 768, 384)).save(made / "courtyard.png")
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_model_for_a_codec_pays_at_equal_bytes(name: str, folder: Path) -> None:
    content = load_checkpoint(checkpoint(name))
    survives = Survives.of(content.codec, name)
    assert survives is not None and survives.known and survives.chroma[0] == "4:2:0"
    network = content.build()
    network.freeze_inverses()
    found = CodecValidation(folder, network.config.scale, Coder("jpeg"))(network)
    assert isinstance(found, CodecFigures)
    assert found.gain_bytes > GAINS[name]
    assert found.lr_psnr > 26  # still a picture
    lossless = load_checkpoint(checkpoint(name.removesuffix("-codec"))).build()
    lossless.freeze_inverses()
    image = np.asarray(Image.open(folder / "courtyard.png"))
    assert found.clean_y > ws_psnr(luma(round_trip(lossless, image)[1]), luma(image)) - 4
