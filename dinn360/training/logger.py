"""What a run tells while it goes on: a progress bar, CSV files, pictures and, when asked for, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinn360.evaluation.validate import Figures, Restored
from dinn360.training.pictures import learning_curve, sample_sheet
from dinn360.training.settings import MOST
from engines.support.errors import UserError
from engines.support.files import atomic_path, make_folder, os_reason
from engines.support.images import write_png
from engines.support.progress import progress
from engines.support.reading import whole_number

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STEP_COLUMNS = ("step", "loss", "hr", "lr", "latent", "bits", "rate", "norm", "skipped", "seconds")


class CsvLog:
    """A CSV file with one row a step, written row by row.

    Opened at step n it keeps the rows up to n and drops those beyond, which a run that was killed had written after its
    last state, and a row that was written in part.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self.path, self.columns = path, columns
        kept = [row for row in read_csv(path) if int(row["step"]) <= step]
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def write(self, row: Mapping[str, float]) -> None:
        """One row; numbers are rounded to six digits. Raises UserError when it cannot be written: the disk is full."""
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(
                    [f"{v:.6g}" if isinstance(v, float) else v for v in (row[c] for c in self.columns)]
                )
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot write: {os_reason(error)}; resumed, the run goes on from its last state"
            ) from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """The whole rows of a log by column, all of them numbers or empty; none where the file is not there.

    Raises:
        UserError: it cannot be read, or is no log.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from None
    except csv.Error as error:
        raise UserError(f"{path}: expected the log of a run, found another file ({error})") from None
    return [row for row in rows if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    if None in row or None in row.values() or whole_number(row.get("step"), 0, MOST) is None:
        return False
    try:
        return all(value == "" or float(value) is not None for value in row.values())
    except ValueError:
        return False


class Logger:
    """The log of one run in its folder: train.csv, val.csv, samples/, curve.png, tensorboard/.

    step: where the run goes on; later rows of an earlier process are dropped. first: whether this process tells at all
    (one of several does). figures: what a validation measures.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        steps: int,
        first: bool = True,
        tensorboard: bool = False,
        figures: type[Figures] = Figures,
    ) -> None:
        self.folder, self.first = folder, first
        self.board = _summary_writer(folder / "tensorboard", step) if tensorboard and first else None
        if first:
            self.training = CsvLog(folder / "train.csv", STEP_COLUMNS, step)
            self.validation = CsvLog(folder / "val.csv", ("step", *(field.name for field in fields(figures))), step)
        self.bar = progress(total=steps, initial=step, unit="step", quiet=not first)

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()

    def step(self, row: Mapping[str, float], best: float) -> None:
        """After each step: its row of STEP_COLUMNS, and the best validation so far in dB."""
        if not self.first:
            return
        self.training.write(row)
        self._scalars("train", row)
        shown: dict[str, Any] = {"hr": f"{row['hr']:.4f}", "lr": f"{row['lr']:.5f}", "best": f"{best:.2f}"}
        if row["skipped"]:
            shown["skipped"] = row["skipped"]
        self.bar.update()
        self.bar.set_postfix(shown, refresh=False)

    def validated(self, step: int, figures: Mapping[str, float], sample: Restored, scale: int) -> None:
        """After each validation: its figures, and the sample beside its bicubic reconstruction."""
        row = {"step": step, **figures}
        self.validation.write(row)
        self._scalars("val", row)
        self.bar.write("  ".join([f"step {step}"] + [f"{name} {value:.3f}" for name, value in figures.items()]))
        sheet = sample_sheet(sample, scale)
        make_folder(self.folder / "samples")
        write_png(self.folder / "samples" / f"step_{step:06d}.png", sheet)
        if self.board is not None:
            self.board.add_image("sample", sheet, step, dataformats="HWC")

    def draw_curve(self) -> None:
        """Learning curve of the run so far, as curve.png."""
        training, validation = read_csv(self.training.path), read_csv(self.validation.path)
        learning_curve(training, validation, self.folder / "curve.png")

    def _scalars(self, group: str, row: Mapping[str, float]) -> None:
        if self.board is not None:
            for name, value in row.items():
                if name != "step" and value == value:  # no NaN: the z loss is not computed at every step
                    self.board.add_scalar(f"{group}/{name}", value, row["step"])


def _summary_writer(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "needs the package tensorboard, which is not installed (pip install 'dinn360[tensorboard]')", "tensorboard"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
