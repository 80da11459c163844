"""Files on disk: writing that never leaves half a file, and checksums."""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from engines.support.errors import UserError
from engines.support.temporary import temporary_in

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

    If the block raises, the temporary file is removed and an older `path` stays as it was. What a run that was killed
    left in the folder is removed as well.

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
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long, above all: to be told before any work is done
        raise UserError(f"{shown}: cannot write: {os_reason(error)}") from error
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(temporary_in(target.parent, target.suffix))
        except OSError as error:
            raise UserError(f"{shown}: cannot write: {os_reason(error)}") from error
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


@contextmanager
def folder_for(path: Path, about: str = "out") -> Iterator[None]:
    """`make_folder` for the block; folders that it made and that are still empty go again when the block raises."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path, about)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something is in it
            for folder in made:
                folder.rmdir()
        raise


def prepare_output(path: Path) -> None:
    """Make the folder of a file that is going to be written, and see that it can be: before the work, not after it.

    Raises:
        UserError: as `atomic_path` does, or the folder cannot be made.
    """
    try:
        make_folder(path.parent, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    probe_output(path)


def probe_output(path: Path) -> None:
    """See that a file can be written, without writing it. Raises UserError as `atomic_path` does."""
    with suppress(_WritableError), atomic_path(path):
        raise _WritableError


def probe_outputs(folder: Path, names: Iterable[str], about: str = "out") -> None:
    """See that files of these names can be written into a folder that may not be there yet; nothing is made.

    Raises:
        UserError: as `atomic_path` does, or the folder could not be made. `about` as `make_folder` takes it.
    """
    if folder.is_dir():
        for name in names:
            probe_output(folder / name)
        return
    there = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise UserError(f"{folder}: expected a folder, found a file", about)
    try:
        with temporary_in(there, ""):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot create the folder: {os_reason(error)}", about) from None


class _WritableError(Exception):
    """Leaves `atomic_path` before it replaces anything."""


def make_folder(path: Path, about: str = "out") -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        UserError: a file is in the way or the folder cannot be made. `about`: the parameter that names it, if one does.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{path}: expected a folder, found a file", about) from None
    except OSError as error:
        raise UserError(f"{path}: cannot create the folder: {os_reason(error)}", about) from None
