"""Writing: what is kept of an old file, what is refused, and what a killed writer leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from noisycells.io import check_output, replacing, writing

NAMED = pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])


@pytest.fixture
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with files without a name, where there are, or one without."""
    if request.getfixturevalue("named"):
        monkeypatch.setattr(writing, "_open_nameless", lambda directory: None)


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


@NAMED
@pytest.mark.usefixtures("system")
def test_a_new_file_has_the_usual_mode(named: bool, tmp_path: Path) -> None:
    write(tmp_path / "new", b"new")
    (tmp_path / "usual").touch()
    assert (tmp_path / "new").read_bytes() == b"new"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["new", "usual"]


@NAMED
@pytest.mark.usefixtures("system")
def test_nothing_stays_open(named: bool, tmp_path: Path) -> None:
    """Descriptors are numbered from the least that is free."""

    def free() -> list[int]:
        found = [os.open(tmp_path, os.O_RDONLY) for _ in range(4)]
        for descriptor in found:
            os.close(descriptor)
        return found

    before = free()
    for _ in range(2):  # a new file, and one that is there
        write(tmp_path / "new", b"new")
    assert free() == before


@NAMED
@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_the_mode_of_an_old_file_is_kept(mode: int, named: bool, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old and longer")
    (tmp_path / "old").chmod(mode)
    write(tmp_path / "old", b"new")
    assert (tmp_path / "old").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_owner_of_an_old_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    os.chown(tmp_path / "old", 1234, 4321)
    write(tmp_path / "old", b"new")
    found = (tmp_path / "old").stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)


@NAMED
@pytest.mark.usefixtures("system")
def test_links_are_followed(named: bool, tmp_path: Path) -> None:
    """Also a chain of links, and one to a file that is not there yet."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to(Path("data") / "old")
    (tmp_path / "chain").symlink_to("link")
    (tmp_path / "dangling").symlink_to(Path("data") / "new")
    write(tmp_path / "chain", b"one")
    write(tmp_path / "dangling", b"two")
    assert (tmp_path / "data" / "old").read_bytes() == b"one"
    assert (tmp_path / "data" / "new").read_bytes() == b"two"
    assert all((tmp_path / name).is_symlink() for name in ("link", "chain", "dangling"))
    assert sorted(os.listdir(tmp_path / "data")) == ["new", "old"]
    assert sorted(os.listdir(tmp_path)) == ["chain", "dangling", "data", "link"]


@NAMED
@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("old", [b"", b"old", b"old, and longer than the new one"])
def test_the_names_of_a_file_stay_names_of_one_file(
    old: bytes, named: bool, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(old)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    write(tmp_path / "one", b"the new content")
    assert (tmp_path / "two").read_bytes() == b"the new content"
    assert (tmp_path / "one").samefile(tmp_path / "two")
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


@NAMED
@pytest.mark.usefixtures("system")
def test_until_the_end_the_old_file_stays(named: bool, tmp_path: Path) -> None:
    for names in (["old"], ["old", "link"]):
        if "link" in names:
            (tmp_path / "link").hardlink_to(tmp_path / "old")
        else:
            (tmp_path / "old").write_bytes(b"old")
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / "old") as file:
            file.write(b"half of the new")
            file.flush()
            assert (tmp_path / "old").read_bytes() == b"old"
            raise ZeroDivisionError
        assert (tmp_path / "old").read_bytes() == b"old"
        assert sorted(os.listdir(tmp_path)) == sorted(names)


# ----------------------------------------------------------------- refused


def test_special_files_are_refused(tmp_path: Path) -> None:
    """Before anything is written. No device: a test must not write to one, should this fail."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "to-pipe"):
        with pytest.raises(ValueError, match=rf"{name}: expected a regular file to write, got a F"):
            check_output(tmp_path / name)
        with pytest.raises(ValueError, match="got a FIFO"), replacing(tmp_path / name):
            raise AssertionError("not reached")
    with pytest.raises(IsADirectoryError, match="directory"):
        check_output(tmp_path / "directory")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a regular file to write, got a character dev"):
        check_output(os.devnull)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("here")
        with pytest.raises(ValueError, match="here: expected a regular file to write, got a sock"):
            check_output("here")


def test_errors_name_the_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text").touch()
    for name, error in (
        ("none/file", FileNotFoundError),
        ("text/file", NotADirectoryError),
        ("loop", OSError),
        ("n" * 300, OSError),
    ):
        with pytest.raises(error, match=re.escape(str(tmp_path / name))):
            write(tmp_path / name, b"")
    refused = OSError(errno.EACCES, "Permission denied", str(tmp_path))

    def refuse(directory: Path) -> int:
        raise refused

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_open_nameless", refuse)
        with pytest.raises(PermissionError, match=re.escape(f"'{tmp_path / 'file'}'")):
            write(tmp_path / "file", b"")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{tmp_path / 'file'}'")):
        write(tmp_path / "file", b"")
    assert sorted(os.listdir(tmp_path)) == ["loop", "text"]


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    code = """
import resource, signal, sys
from pathlib import Path
from noisycells.io import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with replacing(sys.argv[1]) as file:
        file.write(bytes(1 << 21))
except OSError as error:
    print(error)
"""
    path = tmp_path / "model"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"[Errno 27] File too large: '{path}'\n"
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["model"]


def test_a_file_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root may write all
    with pytest.raises(PermissionError, match=re.escape(f"'{tmp_path / 'old'}'")):
        write(tmp_path / "old", b"new")
    assert (tmp_path / "old").read_bytes() == b"old"


# ----------------------------------------------------------------- killed writers

KILLED = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from noisycells.io import Reader, Writer, writing
path, system = Path(sys.argv[1]), sys.argv[2]
if system == "named":
    writing._open_nameless = lambda directory: None
data = np.arange(1 << 18, dtype=np.float32)
left = 0

def write():
    with Writer(path) as writer:
        for key in "abc":
            writer.add(key, data + time.monotonic_ns())

write()
for attempt in range(150):
    child = os.fork()
    while not child:
        write()
    time.sleep(0.0002 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    others = [name for name in os.listdir(path.parent) if name != "model"]
    # No more than those of one writer: the next one has swept what there was before.
    assert len(others) <= (2 if system == "named" else 1), others
    left += len(others)
    with Reader(path) as reader:
        first = reader.read("a")
        assert all(reader.read(key).shape == first.shape for key in "bc")
print(left)
"""


@pytest.mark.parametrize("system", ["nameless", "named"])
def test_killed_writers_leave_nothing(system: str, tmp_path: Path) -> None:
    """Killed many times at any moment: the file is whole, and what was left is swept."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "model", system],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if system == "named":
        assert int(done.stdout) > 0  # so there was something to sweep
    write(tmp_path / "other", b"")
    assert sorted(os.listdir(tmp_path)) == ["model", "other"]


def test_a_sweep_leaves_other_files(tmp_path: Path) -> None:
    """Those of living writers, which are locked, and what is not one of ours."""
    mine = [".noisycells-0123456789abcdef", ".noisycells-settings", ".noisycells-0123"]
    for name in mine:
        (tmp_path / name).touch()
    (tmp_path / ".noisycells-00000000000000aa").mkdir()
    (tmp_path / ".noisycells-00000000000000bb").symlink_to(mine[1])
    with open(tmp_path / mine[0], "rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        write(tmp_path / "file", b"")
        assert len(os.listdir(tmp_path)) == 6
    write(tmp_path / "file", b"")
    assert len(os.listdir(tmp_path)) == 5 and not (tmp_path / mine[0]).exists()


@NAMED
@pytest.mark.usefixtures("system")
def test_writers_at_once_do_not_disturb_each_other(named: bool, tmp_path: Path) -> None:
    with replacing(tmp_path / "one") as one:
        one.write(b"one")
        with replacing(tmp_path / "one") as two:
            two.write(b"two")
        write(tmp_path / "other", b"")
    assert (tmp_path / "one").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path)) == ["one", "other"]
