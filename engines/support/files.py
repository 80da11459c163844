"""Files on disk: writing that never leaves half a file, and checksums."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.support.errors import UserError

_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EISDIR: "expected a file, found a folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENAMETOOLONG: "the name is too long",
}
# Inside the caller's block only these say something about the target; other OSErrors are the caller's own.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def os_reason(error: OSError) -> str:
    """Say in a few words why the system refused, without the path (messages name it already)."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` in one step when the block ends well.

    The temporary file lies in the folder of `path` (so that the replacement is a rename), has the same suffix
    (so that a writer that looks at the suffix does the same as for `path`), and is empty when the block
    starts. A symbolic link is followed: the file that it points to is replaced. No folder is created.

    If the block raises, the temporary file is removed and an older `path` stays as it was.

    Raises:
        UserError: the folder is missing or not writable, `path` is a folder or a device, or the disk is full.
    """
    shown, target = Path(path), Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise UserError(f"{shown}: cannot write: expected a file, found a folder")
    if not os.path.isdir(target.parent):
        raise UserError(f"{shown}: cannot write: the folder {shown.parent} does not exist")
    # os.replace would turn /dev/null into an ordinary file
    if os.path.exists(target) and not os.path.isfile(target):
        raise UserError(f"{shown}: cannot write: expected a regular file, found a device or a pipe")
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}{target.suffix}"
    try:
        # Not tempfile.mkstemp: what it makes only the owner can read, and the result would stay like that.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise UserError(f"{shown}: cannot write: {os_reason(error)}") from error
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno in _DISK_ERRORS or error.filename == str(temporary):
                raise UserError(f"{shown}: cannot write: {os_reason(error)}") from error
            raise
        try:
            _flush(temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise UserError(f"{shown}: cannot write: {os_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Force the bytes to disk before the rename: a power cut must not leave an empty file under the name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all. Raises UserError as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in blocks.

    Raises:
        UserError: the file is missing, a folder or not readable.
    """
    try:
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from error


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        UserError: a file is in the way or the folder cannot be made; the message names `option`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{option} {path}: expected a folder, found a file") from None
    except OSError as error:
        raise UserError(f"{option} {path}: cannot create the folder: {os_reason(error)}") from None
