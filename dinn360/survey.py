"""What a folder of panoramas holds, before anybody trains on it: sizes, projections, duplicates, damaged files."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dinn360.evaluation.metrics import luma
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.images import read_panorama
from engines.support.progress import progress

SEAM = 4.0  # the edge may differ from its neighbour column this many times as much as columns inside do
POLE = 0.9  # the first and last row may vary by this share of what rows near the equator do (a forest: 0.85)
NEAR = 4  # differing bits of 64 up to which two fingerprints count as the same picture


@dataclass
class Survey:
    """sizes: images by (width, height). kinds: names by what the picture looks like. unreadable: name and reason.
    same: groups of identical pixels. alike: groups of nearly the same picture."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unreadable: dict[str, str] = field(default_factory=dict)
    same: list[list[str]] = field(default_factory=list)
    alike: list[list[str]] = field(default_factory=list)

    def text(self) -> str:
        """A report for people: counts, and the names of what deserves a look."""
        images = sum(self.sizes.values())
        pixels = sum(count * width * height for (width, height), count in self.sizes.items())
        lines = [f"{images} images, {pixels / 1e6:.1f} megapixels"]
        lines += [f"  {width}x{height}: {count}" for (width, height), count in self.sizes.most_common()]
        for kind, names in self.kinds.items():
            lines.append(f"{kind}: {len(names)}" + ("" if kind == ERP else f" ({', '.join(names)})"))
        lines += [f"identical ({len(names)}): {', '.join(names)}" for names in self.same]
        lines += [f"nearly the same ({len(names)}): {', '.join(names)}" for names in self.alike]
        lines += [f"unreadable: {name}: {reason}" for name, reason in self.unreadable.items()]
        return "\n".join(lines)

    def clean(self) -> bool:
        return not (self.unreadable or self.same or self.alike or set(self.kinds) - {ERP})


ERP = "equirectangular"
NOT_2_TO_1 = "not 2:1"
SEAM_SEEN = "2:1, but the left and right edges do not meet"
POLES_SEEN = "2:1, but the first or last row is no single point"


def survey(paths: Sequence[Path], root: Path) -> Survey:
    """Reads every image once. Names are relative to `root`."""
    result = Survey()
    by_hash: dict[str, list[str]] = defaultdict(list)
    prints: dict[str, int] = {}
    for path in progress(paths, desc="survey", unit="image"):
        name = str(path.relative_to(root))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = read_panorama(path)
        except UserError as error:
            result.unreadable[name] = str(error).removeprefix(f"{path}: ")
            continue
        result.sizes[(image.shape[1], image.shape[0])] += 1
        result.kinds[projection(image)].append(name)
        by_hash[hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest()].append(name)
        prints[name] = fingerprint(image)
    result.same = [names for names in by_hash.values() if len(names) > 1]
    copies = {name for names in result.same for name in names[1:]}  # their first stands for all of them
    result.alike = similar({name: bits for name, bits in prints.items() if name not in copies})
    return result


def similar(prints: dict[str, int]) -> list[list[str]]:
    """Groups of names whose fingerprints are near each other, directly or through others of the group."""
    group = {name: [name] for name in prints}
    for (a, bits_a), (b, bits_b) in itertools.combinations(prints.items(), 2):
        if (bits_a ^ bits_b).bit_count() <= NEAR and group[a] is not group[b]:
            group[a] += group[b]
            group.update((name, group[a]) for name in group[b])
    return [names for name, names in group.items() if names[0] == name and len(names) > 1]


def projection(image: Image8) -> str:
    """What an image (H,W,3) looks like by its size, its left and right edges, and its first and last row."""
    height, width = image.shape[:2]
    if width != 2 * height:
        return NOT_2_TO_1
    y = luma(image)
    inside = np.abs(np.diff(y, axis=1)).mean()
    if np.abs(y[:, 0] - y[:, -1]).mean() > SEAM * inside + 2:
        return SEAM_SEEN
    equator = y[height // 4 : -(height // 4)].std(axis=1).mean()
    if max(y[0].std(), y[-1].std()) > POLE * equator + 4:
        return POLES_SEEN
    return ERP


def fingerprint(image: Image8) -> int:
    """64 bits that survive resizing and compression: whether each cell of an 8x9 reduction is darker than the next."""
    small = np.asarray(Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(small[:, :-1] < small[:, 1:]).tobytes())
