"""What the configs of all architectures have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from engines.support.errors import UserError

SCALES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that fixes a network. Levels, one for each factor of two, are listed from fine (0) to coarse.

    architecture: its tag in files. title: what people call it. level_type: the dataclass of one level.
    preset: the name under which the sizes are known, or "custom".
    """

    architecture: ClassVar[str]
    title: ClassVar[str]
    level_type: ClassVar[type]

    scale: int
    levels: tuple[Any, ...]
    preset: str = "custom"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UserError(f"scale: expected one of {SCALES}, found {self.scale}")
        if 2 ** len(self.levels) != self.scale:
            raise UserError(f"levels: scale {self.scale} needs log2(scale) levels, found {len(self.levels)}")

    @property
    def deform(self) -> bool:
        """Whether sampling offsets are on, in an architecture that has them."""
        return False

    @property
    def name(self) -> str:
        """Architecture and size for tables, as "IRN edge"."""
        return f"{self.title} {self.preset.removeprefix(f'{self.architecture}-')}"

    def level_channels(self, index: int) -> tuple[int, int]:
        """Channels (total, kept) of level `index`: after its Haar, and after its split (the last keeps y: 3).

        HCFlow's hierarchy: each level but the last splits off half of its channels.
        """
        kept_before = 3
        for i in range(index + 1):
            total = 4 * kept_before
            kept_before = 3 if i == len(self.levels) - 1 else total // 2
        return total, kept_before

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for checkpoints and JSON."""
        return {"architecture": self.architecture, **asdict(self), "levels": [asdict(level) for level in self.levels]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown or missing names raise UserError."""
        given = {name: value for name, value in values.items() if name != "architecture"}
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise UserError(f"model config: unknown field {unknown[0]!r}, expected some of {sorted(known)}")
        try:
            levels = tuple(cls.level_type(**level) for level in given["levels"])
            return cls(**{**given, "levels": levels})
        except (TypeError, KeyError) as error:
            raise UserError(f"model config: {error}") from None

    def _check_whole_numbers(self, besides: tuple[str, ...] = ()) -> None:
        """Raises UserError unless every field of every level, `besides` some, is a positive whole number."""
        for index, level in enumerate(self.levels):
            for name, value in asdict(level).items():
                if name not in besides and (type(value) is not int or value < 1):
                    raise UserError(f"levels[{index}].{name}: expected a positive whole number, found {value!r}")
