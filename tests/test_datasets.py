"""Layouts of data sets, lists of exclusions, and `python -m dinn360 data check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ASSETS
from PIL import Image

from dinn360.cli import main
from dinn360.data.datasets import LAYOUTS, Selection, read_exclusions, select
from dinn360.survey import NOT_2_TO_1, SEAM_SEEN, fingerprint, projection, similar
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.images import write_png

OSRT = """
import shutil
raise SystemExit("this file must not be run")
train_dict = {'0016': 'part of ERP', '0026':
              'virtual scenario'}
validation_dict = {}
suntest_dict = {'7': 'not ERP'}
bad = {name: 1 for name in train_dict}
"""


def grow(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def chosen(root: Path, *values: object) -> list[str]:
    return [path.relative_to(root).as_posix() for path in select(root, Selection(*values))]  # type: ignore[arg-type]


def test_odisr_as_lau_net_and_osrt_have_it(tmp_path: Path) -> None:
    top = "lau_dataset/odisr"
    names = [f"{top}/training/HR/0016.jpg", f"{top}/training/HR/0017.jpg", f"{top}/testing/HR/014.png"]
    grow(tmp_path, *names, f"{top}/training/LR/X4/0016.jpg", f"{top}/training/HR/notes.txt", "other.png")
    assert chosen(tmp_path, "odisr") == names
    assert chosen(tmp_path, "odisr", "train") == names[:2]
    assert chosen(tmp_path / top, "odisr", "test") == ["testing/HR/014.png"]
    (tmp_path / "make_clean.py").write_text(OSRT)
    assert chosen(tmp_path, "odisr", "train", tmp_path / "make_clean.py") == names[1:2]
    with pytest.raises(UserError, match=r"validation/HR or valid/HR or val/HR.*lau_dataset/odisr.*found no such"):
        select(tmp_path, Selection("odisr", "val"))


def test_sun360_flickr360_and_video_frames(tmp_path: Path) -> None:
    grow(tmp_path, "sun_test/HR/1.png", "sun_test/HR/7.png", "sun_test/LR_fisheye/X2/1.png")
    assert chosen(tmp_path, "sun360") == ["sun_test/HR/1.png", "sun_test/HR/7.png"]
    (tmp_path / "list.py").write_text(OSRT)
    assert chosen(tmp_path, "sun360", None, tmp_path / "list.py") == ["sun_test/HR/1.png"]
    with pytest.raises(UserError, match="split: the layout sun360 has no splits"):
        select(tmp_path, Selection("sun360", "train"))

    grow(tmp_path, "flickr360/train/HR/a.png", "flickr360/valid/HR/b.png", "flickr360/train/LR/a.png")
    assert chosen(tmp_path, "flickr360") == ["flickr360/train/HR/a.png", "flickr360/valid/HR/b.png"]

    frames = [f"odv/test/GT/{clip}/{frame:04}.png" for clip in ("x", "y") for frame in range(15)]
    grow(tmp_path, *frames)
    assert chosen(tmp_path / "odv", "odv360") == [f"test/GT/{c}/{f}.png" for c in "xy" for f in ("0000", "0010")]
    assert chosen(tmp_path / "odv/test/GT", "youtube360") == [f"{c}/{f}.png" for c in "xy" for f in ("0000", "0010")]


def test_a_list_of_names(tmp_path: Path) -> None:
    grow(tmp_path, "stimuli/a.jpg", "stimuli/b.jpg", "masks/c.png")
    (tmp_path / "train.txt").write_text("# the first split\na.jpg\nc\n\n")
    assert chosen(tmp_path, "f-360isod", None, None, tmp_path / "train.txt") == ["masks/c.png", "stimuli/a.jpg"]
    (tmp_path / "none.txt").write_text("z\n")
    with pytest.raises(UserError, match="that the lists leave, found none"):
        select(tmp_path, Selection("folder", names=tmp_path / "none.txt"))


def test_exclusions_as_text_and_their_mistakes(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("016: part of ERP\n# nothing\n 026 # virtual\n")
    assert read_exclusions(tmp_path / "bad.txt", "train") == {"016", "026"}
    (tmp_path / "bad.py").write_text("train_dict = {open('x'): 1}")
    with pytest.raises(UserError, match="bad.py: expected a dictionary train_dict of literals"):
        read_exclusions(tmp_path / "bad.py", "train")
    (tmp_path / "syntax.py").write_text("train_dict = {")
    with pytest.raises(UserError, match="found an error in line 1"):
        read_exclusions(tmp_path / "syntax.py", "train")
    with pytest.raises(UserError, match=r"none\.txt: expected a readable text file"):
        read_exclusions(tmp_path / "none.txt", "train")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_is_named(tmp_path: Path, layout: str) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        select(tmp_path, Selection(layout))
    with pytest.raises(UserError, match="expected a folder of panoramas, found nothing"):
        select(tmp_path / "none", Selection(layout))


def test_check_finds_what_is_wrong(tmp_path: Path, forest: Image8, courtyard: Image8) -> None:
    write_png(tmp_path / "good.png", forest)
    write_png(tmp_path / "again.png", forest)
    Image.fromarray(forest).resize((512, 256)).save(tmp_path / "smaller.jpg", quality=80)
    write_png(tmp_path / "cut.png", np.ascontiguousarray(courtyard[100:228, 300:556]))
    write_png(tmp_path / "square.png", np.ascontiguousarray(courtyard[:128, :128]))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "smaller.jpg").read_bytes()[:900])
    done = CliRunner().invoke(main, ["data", "check", str(tmp_path)])
    assert done.exit_code == 1
    assert "5 images" in done.stdout and "1024x512: 2" in done.stdout
    assert f"{SEAM_SEEN}: 1 (cut.png)" in done.stdout and f"{NOT_2_TO_1}: 1 (square.png)" in done.stdout
    assert "identical (2): again.png, good.png" in done.stdout
    assert "nearly the same (2): again.png, smaller.jpg" in done.stdout
    assert "unreadable: broken.jpg: " in done.stdout


def test_near_duplicates_are_groups_not_pairs() -> None:
    """A series of twenty frames is one line, not 190."""
    series = {f"frame{index}": index for index in (0b0, 0b1111, 0b11110000, 0b111100000000)}  # each near one other
    apart = {"other": (1 << 64) - 1, "far": 0xFFFFFFFF00000000}
    assert similar({"other": apart["other"], **series, "far": apart["far"]}) == [list(series)]
    assert similar(dict.fromkeys((f"{n}" for n in range(20)), 7)) == [[f"{n}" for n in range(20)]]


def test_check_is_content_with_good_panoramas() -> None:
    done = CliRunner().invoke(main, ["data", "check", str(ASSETS)])
    assert done.exit_code == 0, done.output
    assert "3 images" in done.stdout and "equirectangular: 3" in done.stdout


def test_the_seam_moves_with_the_heading(forest: Image8) -> None:
    assert projection(forest) == projection(np.roll(forest, 333, axis=1)) == "equirectangular"
    assert projection(np.ascontiguousarray(forest[:, ::-1])) == "equirectangular"
    assert (fingerprint(forest) ^ fingerprint(np.roll(forest, 333, axis=1))).bit_count() > 8
