"""A stored model in a file, read tensor by tensor."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import Closing, Reader
from ..io.dtypes import numbers
from ..random import STREAM_VERSION
from .model_files import check_arrays, naming
from .schema import Record, check_content, describe
from .stored import StoredTensor

__all__ = ["StoredFile", "warn_of_streams"]

PathLike = str | os.PathLike[str]


def warn_of_streams(path: PathLike, version: str) -> None:
    """Warn where the file was written with other random streams."""
    if version != str(STREAM_VERSION):
        warnings.warn(
            f"{path}: written with version {version} of the random streams and read with "
            f"{STREAM_VERSION}; a seed gives other noise than it gave then",
            stacklevel=4,
        )


class StoredFile(Closing):
    """An open file of a stored model, read tensor by tensor; a context manager.

    Parameters
    ----------
    path : path-like
        The file.

    Attributes
    ----------
    kind : "tensor" or "model"
        What was saved.
    names, digital_names : list of str
        Tensors in cells, and those kept digital.
    aliases : dict of str to str
        Further names of tensors.
    stream_version : int
        Version of the random streams when the file was written.
    source_metadata : dict of str to str
        Metadata of the safetensors file the model came from.

    Raises
    ------
    FormatError, DecodeError, OSError
        See :func:`load`, also for the warning.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._reader = Reader(path)
        try:
            with naming(self._reader):
                self._describe()
            warn_of_streams(path, str(self.stream_version))
        except BaseException:
            self.close()
            raise

    def _describe(self) -> None:
        found = describe(self._reader)
        self.kind, self.stream_version = found.kind, found.stream_version
        self.digital_names, self.aliases = found.digital, found.aliases
        self.source_metadata = found.source_metadata
        self._records = found.records
        self.names = list(found.records)
        check_arrays(self._reader, found.arrays(), found.digital)

    def tensor(self, name: str) -> StoredTensor:
        """One tensor in cells.

        Raises
        ------
        KeyError
            If there is no such tensor.
        DecodeError
            If it is damaged or inconsistent.
        """
        record: Record = self._records[name]
        arrays = {key: self._reader.read(key) for key in record.arrays()}
        stored = StoredTensor(
            name,
            record.shape,
            record.codec,
            record.ranges,
            arrays[f"{name}.levels"],
            arrays.get(f"{name}.side", np.empty(0, np.uint8)),
            arrays.get(f"{name}.mask"),
            dtype=record.dtype,
        )
        with naming(self._reader, f"tensor {name!r}: "):
            check_content(stored, record.stored)
        return stored

    def digital(self, name: str) -> NDArray[Any]:
        """One tensor that is kept digital; of a dtype that numpy does not have in float32."""
        return numbers(self.digital_bits(name), self.digital_dtype(name))

    def digital_bits(self, name: str) -> NDArray[Any]:
        """One tensor that is kept digital, as it is in the file."""
        return self._reader.read(f"{name}.digital")

    def digital_dtype(self, name: str) -> str:
        """The dtype of a tensor that is kept digital, as safetensors calls it."""
        return self._reader.entries[f"{name}.digital"].dtype

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
