"""VR photos: a picture of the left eye whose XMP packet holds an image file of the right one (GImage).

The file within is rescaled as any file is and put back into the packet, so that the LR picture is a VR photo as well.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from engines.panorama.metadata import Metadata
from engines.panorama.sinks import format_of
from engines.support.errors import UserError

_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
}


def with_other_eye_rescaled(
    metadata: Metadata, source: Path, target: Path, rescale: Callable[[Path, Path], object]
) -> Metadata:
    """The metadata with what `rescale` makes of the file of the other eye, in the format of `target`.

    source: whose metadata they are, for messages.

    Raises:
        UserError: of `rescale`, naming `source`.
    """
    image = metadata.other_eye
    if image is None:
        return metadata
    kind = _TYPES[format_of(target)]
    with tempfile.TemporaryDirectory(prefix="dinn360-") as folder:
        before, after = Path(folder) / "before", Path(folder) / f"after{target.suffix}"
        before.write_bytes(image)

        def told(text: object) -> str:
            return str(text).replace(str(before), f"{source} (right eye)").replace(str(after), f"{target} (right eye)")

        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            try:
                rescale(before, after)
            except UserError as error:
                raise UserError(told(error)) from error
        result = metadata.with_other_eye(after.read_bytes(), kind)
    for note in notes:
        warnings.warn(told(note.message), stacklevel=3)
    return result
