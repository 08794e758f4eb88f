"""Weights in safetensors files: one file, several of an index, or a directory of transformers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .._arguments import expectation
from .closing import Closing
from .files import Entry, FormatError, Reader, parse

__all__ = ["INDEX", "Weights", "is_weights", "weight_files"]

INDEX = ".safetensors.index.json"
"""How the names of indices end: which tensor is in which file (huggingface_hub)."""

_NAMES = ("model.safetensors", f"model{INDEX}", "diffusion_pytorch_model.safetensors",
          f"diffusion_pytorch_model{INDEX}")  # fmt: skip


def is_weights(path: str | os.PathLike[str]) -> bool:
    """Whether this is what :class:`Weights` reads, by its name: a directory, file or index."""
    path = Path(path)
    return path.is_dir() or path.name.endswith((".safetensors", INDEX))


def weight_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """All files that the weights at ``path`` are in, the index too.

    Raises
    ------
    FormatError
        If a directory has none or several, or an index is none.
    OSError
        If it cannot be read.
    """
    path = _found(Path(path))
    if not path.name.endswith(INDEX):
        return (path,)
    return path, *dict.fromkeys(path.parent / file for file in _index(path).values())


def _found(path: Path) -> Path:
    """The file or index of a directory."""
    if not path.is_dir():
        return path
    present = [path / name for name in _NAMES if (path / name).exists()]
    if not present:
        present = sorted(path.glob("*.safetensors"))
    if len(present) != 1:
        got = ", ".join(file.name for file in present) or "none"
        one = f"one model.safetensors or model{INDEX} in the directory"
        raise FormatError(f"{path}: {expectation(one, got)}; name the file")
    return present[0]


def _index(path: Path) -> dict[str, str]:
    """The file of each tensor."""
    try:
        content = parse(path.read_bytes())
    except ValueError as error:
        raise _no_index(path, "an index of safetensors files", f"none: {error}") from None
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise _no_index(path, "an index with a weight_map", "none")
    for name, file in files.items():
        if not isinstance(file, str) or file != os.path.basename(file) or not file:
            raise _no_index(path, f"the file of {name!r} beside the index", repr(file))
    return files


def _no_index(path: Path, expected: str, got: object) -> FormatError:
    return FormatError(f"{path}: {expectation(expected, got)}")


class Weights(Closing):
    """Tensors of one or more plain safetensors files, read one at a time; a context manager.

    Parameters
    ----------
    path : path-like
        A safetensors file, an index of several, or a directory that holds one or the other, such
        as ``save_pretrained`` of transformers writes.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
        Of the first file.
    entries : dict of str to Entry
        The tensors, file by file.

    Raises
    ------
    FormatError, OSError
        As :class:`Reader`; also if a file has other tensors than its index says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        found = _found(self.path)
        index = _index(found) if found.name.endswith(INDEX) else None
        self._readers: dict[str, Reader] = {}
        self.entries: dict[str, Entry] = {}
        with ExitStack() as stack:
            for file in weight_files(found)[index is not None :]:
                reader = stack.enter_context(Reader(file, checked=False))
                for name, entry in reader.entries.items():
                    if name in self._readers or (index is not None and name not in index):
                        raise FormatError(f"{file}: tensor {name!r} is not there by its index")
                    self._readers[name], self.entries[name] = reader, entry
            for name, shard in (index or {}).items():
                if name not in self.entries:
                    raise _no_index(found, f"tensor {name!r} in {shard}", "none")
            readers = list(dict.fromkeys(self._readers.values()))
            self.metadata = dict(readers[0].metadata) if readers else {}
            self._stack = stack.pop_all()

    def read(self, name: str) -> NDArray[Any]:
        """One tensor, as :meth:`Reader.read`."""
        if name not in self._readers:
            raise FormatError(f"{self.path}: there is no tensor {name!r}")
        return self._readers[name].read(name)

    def close(self) -> None:
        """Close all files."""
        self._stack.close()
