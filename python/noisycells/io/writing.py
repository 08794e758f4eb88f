"""Writing a file so that the old one or the new one is there, and nothing else is left.

The new content goes to a file without a name (``O_TMPFILE``) in the same directory, which takes
the old one's place when it is complete; a writer that is killed leaves nothing. Where the system
has no such files, and for the moment in which a file is put in the place of an old one, it has a
name, ``.noisycells-`` and 16 digits, and a lock; the next write in the directory removes those
that no living writer has locked. ``docs/format.md`` says what is kept of an old file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .._arguments import wrong_value

PathLike = str | os.PathLike[str]

PIECE = 1 << 20  # bytes copied at a time

_TEMPORARY = re.compile(r"\.noisycells-[0-9a-f]{16}")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def check_output(path: PathLike, *sources: PathLike) -> Path:
    """The file that a write to ``path`` goes to, with links followed.

    Raises
    ------
    ValueError
        If ``path`` is a FIFO, a device or a socket, or one of ``sources``, which are read.
    OSError
        If it is a directory, is in none, or may not be written.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        return target
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise wrong_value(path, "a regular file to write", kind)
    for source in sources:
        if os.path.samefile(source, path):
            raise wrong_value(
                path, f"another file to write than {source}, which is read", "the same"
            )
    target = Path(os.path.realpath(path))
    if not target.exists():
        raise wrong_value(path, "a regular file to write", "one without a name")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return target


@contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write; what is written is at ``path`` when the block ends without error.

    What was at ``path`` stays until then, and stays if there is an error.

    Raises
    ------
    ValueError, OSError
        As :func:`check_output`, at the start; if the directory cannot be written, or there is no
        room. Messages name ``path``.
    """
    target = check_output(path)
    with _named(path, target):
        _sweep(target.parent)
        temporary = _Temporary(target.parent)
        try:
            yield temporary.file
            temporary.file.flush()
            os.fsync(temporary.file.fileno())
            temporary.become(target)
        finally:
            temporary.close()


@contextmanager
def scratch(path: PathLike) -> Iterator[IO[bytes]]:
    """A binary file without a name beside ``path``, for what is gone after the block."""
    target = check_output(path)
    with _named(path, target):
        temporary = _Temporary(target.parent)
        try:
            temporary.unname()
            yield temporary.file
        finally:
            temporary.close()


@contextmanager
def _named(path: PathLike, target: Path) -> Iterator[None]:
    """Errors that name no file or a temporary one name ``path``, as the user knows it."""
    try:
        yield
    except OSError as error:
        name = error.filename
        temporary = isinstance(name, str) and (
            name == str(target.parent) or _TEMPORARY.fullmatch(os.path.basename(name))
        )
        if temporary or (name is None and error.errno in _NO_ROOM):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


class _Temporary:
    """A locked file in a directory, without a name where the system has such files."""

    def __init__(self, directory: Path) -> None:
        self.path: Path | None = None
        self._directory = directory
        descriptor = _open_nameless(directory)
        while descriptor is None:
            self.path = self._new_name()
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o666)
            _lock(descriptor)
            if not os.fstat(descriptor).st_nlink:  # another writer's sweep was faster
                os.close(descriptor)
                descriptor = None
        self.file: IO[bytes] = open(descriptor, "w+b")
        if self.path is None:
            _lock(descriptor)

    def _new_name(self) -> Path:
        return self._directory / f".noisycells-{secrets.token_hex(8)}"

    def become(self, target: Path) -> None:
        """Put the file at ``target``, with the mode and owner of the one that is there."""
        if not target.exists() and self.path is None:
            with suppress(FileExistsError):  # by another writer, in between
                self._link(target)
                return
        descriptor = self.file.fileno()
        old = target.stat() if target.exists() else None
        if old is not None:
            with suppress(PermissionError):  # as one may not give files away
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        if self.path is None:
            name = self._new_name()
            self._link(name)
            self.path = name
        if old is not None and old.st_nlink > 1:
            self._copy_into(target)
        else:
            os.replace(self.path, target)
            self.path = None

    def _link(self, name: Path) -> None:
        # With a directory given, os.link follows the link in /proc.
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(
                f"/proc/self/fd/{self.file.fileno()}",
                name.name,
                dst_dir_fd=directory,
                follow_symlinks=True,
            )
        finally:
            os.close(directory)

    def _copy_into(self, target: Path) -> None:
        """Write over a file that has other names, which keep the content in common."""
        self.file.seek(0, os.SEEK_END)
        size = self.file.tell()
        self.file.seek(0)
        with open(target, "r+b") as there:
            if size > os.fstat(there.fileno()).st_size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(there.fileno(), 0, size)  # no room: before anything is lost
            shutil.copyfileobj(self.file, there, PIECE)
            there.truncate()
            there.flush()
            os.fsync(there.fileno())

    def unname(self) -> None:
        """Remove the name, if there is one; the file lives until it is closed."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    def close(self) -> None:
        """Close the file and leave no name of it."""
        self.unname()
        with suppress(OSError):  # what is not written yet, on a full disk
            self.file.close()


def _lock(descriptor: int) -> None:
    with suppress(OSError):  # on file systems without locks nothing is swept, either
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _open_nameless(directory: Path) -> int | None:
    """A file without a name that can be given one; None where the system has no such files."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            return None
        raise


def _sweep(directory: Path) -> None:
    """Remove the files of writers that were killed: those that nobody has locked."""
    with suppress(OSError):
        names = [name for name in os.listdir(directory) if _TEMPORARY.fullmatch(name)]
        for name in names:
            with suppress(OSError):
                _remove_if_left(directory / name)


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)
