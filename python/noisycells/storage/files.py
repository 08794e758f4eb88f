"""Stored models in files, whole or tensor by tensor; ``docs/format.md`` specifies the format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NoReturn

from numpy.typing import NDArray

from .. import _arguments
from .._types import F32
from ..io import FORMAT, Reader, Weights, Writer, check_output, weight_files
from ..io.dtypes import FLOATS, WITHOUT_NUMPY, numbers
from .analog import Analog, AnalogModel
from .analog_files import AnalogFile
from .arrays import Source, prepare
from .codec import Codec
from .coded_files import CodedFile
from .cost import Cost, total
from .cost import digital as digital_cost
from .model_files import ModelFile, as_it_came, check_aliases, described, digital_bits
from .modes import CodedModel
from .modes.mode import Mode
from .selection import belongs_in_cells
from .stored import StoredModel, StoredTensor
from .stored_file import PathLike, StoredFile, warn_of_streams

Progress = Callable[[str], object]

WHOLE: tuple[type[CodedFile] | type[AnalogFile], ...] = (CodedFile, AnalogFile)
"""Kinds of files that are read as a whole; the others are read tensor by tensor."""


def save(path: PathLike, stored: StoredTensor | StoredModel | CodedModel | AnalogModel) -> None:
    """Write a stored tensor or model to a file; equal bytes for equal content.

    The file is at ``path`` when it is complete; until then what was there stays. Links are
    followed, modes kept (see ``docs/format.md``).

    Raises
    ------
    TypeError
        If ``stored`` is none of these.
    ValueError
        If safetensors has no dtype for a digital tensor, an alias is of no tensor or one more
        tensor, or ``path`` is not a regular file.
    OSError
        If the file cannot be written.
    """
    if isinstance(stored, (CodedModel, AnalogModel)):
        with Writer(path) as whole:
            _kind_of(stored).write(whole, stored)
        return
    if not isinstance(stored, (StoredTensor, StoredModel)):
        raise _arguments.wrong_type("stored", "a StoredTensor or a stored model", stored)
    with _StoredWriter(path) as writer:
        if isinstance(stored, StoredTensor):
            writer.kind = "tensor"
            writer.store(stored)
            return
        for name, bits, dtype in digital_bits(stored):
            writer.keep(name, bits, dtype)
        for tensor in stored.values():
            writer.store(tensor)
        writer.alias(stored.aliases)


def load(
    path: PathLike, *none_more: NoReturn
) -> StoredTensor | StoredModel | CodedModel | AnalogModel:
    """Read what :func:`save` or :func:`encode_file` wrote; every byte and field is checked.

    Digital tensors of dtypes that numpy does not have become float32, and
    ``StoredModel.digital_dtypes`` says so.

    Warns
    -----
    UserWarning
        If the file was written with another version of the random streams: it holds the same
        cells, but a seed gives other noise than it gave then.

    Raises
    ------
    FormatError
        If the file is not one of this package, or of another major version.
    DecodeError
        If it is damaged, cut off or inconsistent.
    OSError
        If it cannot be read.
    TypeError
        If ``path`` is none, or more is given: ``noisycells.torch.load(stored, model, seed)`` puts
        what this returns into a model.
    """
    if none_more or not isinstance(path, (str, os.PathLike)):
        raise _arguments.wrong_type(
            "path",
            "a path and nothing more; noisycells.torch.load(stored, model, seed) puts what is "
            "read into a model",
            (path, *none_more),
        )
    with Reader(path) as reader:
        if (whole := _whole(reader)) is not None:
            model = whole.model()
            warn_of_streams(path, reader.metadata["stream_version"])
            return model
    with StoredFile(path) as file:
        tensors = {name: file.tensor(name) for name in file.names}
        if file.kind == "tensor":
            return next(iter(tensors.values()))
        dtypes = {name: file.digital_dtype(name) for name in file.digital_names}
        return StoredModel(
            tensors,
            {name: file.digital(name) for name in file.digital_names},
            {name: dtype for name, dtype in dtypes.items() if dtype in WITHOUT_NUMPY},
            file.aliases,
        )


def encode_file(
    source: PathLike,
    path: PathLike,
    codec: Codec | Mode | Analog,
    *,
    mask: Literal["nonzero"] | None = None,
    overrides: Mapping[str, Any] | None = None,
    digital: Sequence[str] = (),
    store_biases: bool = False,
    progress: Progress | None = None,
) -> Cost:
    """Store the model of safetensors files in cells, tensor by tensor.

    Memory use peaks at about twice the largest tensor (in float32); the coded modes, whose blocks
    hold parts of several tensors, and the analog one take the whole model. Integers, and what
    :func:`belongs_in_cells` excludes, stay digital: biases, normalization. So do the scales of
    float8 weights, ``NAME_scale`` and ``NAME_scale_inv``, beside weights NAME, whose numbers are
    stored as they are, without these scales.

    Parameters
    ----------
    source : path-like
        A safetensors file, an index of several (``model.safetensors.index.json``), or a directory
        of transformers with one or the other. Weights in float8, float16, bfloat16, float32 or
        float64.
    path : path-like
        File to write, as :func:`save` does; another one than ``source``.
    codec, mask, overrides
        As for :meth:`Codec.encode`.
    digital : sequence of str
        Patterns (``fnmatch``) of names to keep digital too.
    store_biases : bool
        Store biases in cells.
    progress : callable, optional
        Called with the name of each tensor when it has been written.

    Returns
    -------
    Cost
        What the model costs.

    Raises
    ------
    FormatError
        If ``source`` is not a safetensors file of supported dtypes.
    ValueError
        If a weight is NaN or infinite, no tensor is to be stored, ``source`` is encoded already or
        is ``path``, or a pattern of ``overrides`` matches none.
    OSError
        If a file cannot be read or written.
    """
    if isinstance(digital, str):
        raise _arguments.wrong_type("digital", "a sequence of patterns", digital)
    if not isinstance(codec, (Codec, Mode, Analog)):
        raise _arguments.wrong_type("codec", "a Codec, Coded, Levels or Analog", codec)
    store_biases = _arguments.flag("store_biases", store_biases)
    check_output(path, *weight_files(source))
    if not isinstance(codec, Codec):
        with Weights(source) as reader, Writer(path) as whole:
            names = _names_in_cells(reader, digital, store_biases)
            model = _encode_whole(reader, names, codec, mask, overrides)
            _kind_of(model).write(whole, model, reader.metadata)
            for name in (*model, *model.digital):
                _report(progress, name)
            return model.cost
    with Weights(source) as reader, _StoredWriter(path) as writer:
        names = _names_in_cells(reader, digital, store_biases)
        for name, entry in reader.entries.items():
            if name not in names:
                writer.keep(name, reader.read(name), entry.dtype)
                _report(progress, name)
        for stored in codec.encode_each(_loader(reader, mask), names, overrides):
            writer.store(stored)
            _report(progress, stored.name)
            del stored  # before the next one is loaded
        if reader.metadata:
            writer.metadata["source_metadata"] = json.dumps(reader.metadata)
        return writer.cost


def _kind_of(model: CodedModel | AnalogModel) -> type[ModelFile[Any]]:
    """The kind of file that a model is written to as a whole."""
    return next(kind for kind in WHOLE if isinstance(model, kind.MODEL))


def _whole(reader: Reader) -> CodedFile | AnalogFile | None:
    """The description of a file that is read as a whole; None of others."""
    kinds = {kind.KIND: kind for kind in WHOLE}
    kind = kinds.get(reader.metadata.get("kind", ""))
    return None if kind is None else kind(reader)


def _encode_whole(
    reader: Weights,
    names: Sequence[str],
    codec: Mode | Analog,
    mask: Literal["nonzero"] | None,
    overrides: Mapping[str, Any] | None,
) -> CodedModel | AnalogModel:
    arrays, dtypes = {}, {}
    for name, entry in reader.entries.items():
        arrays[name], dtypes[name] = numbers(reader.read(name), entry.dtype), entry.dtype
    kept = {name: array for name, array in arrays.items() if name not in names}
    weights = {name: arrays[name] for name in names}
    model = codec.encode(weights, mask, overrides=overrides, digital=kept)
    return model.with_dtypes(dtypes)


def read_weights(source: PathLike, store_biases: bool = False) -> dict[str, NDArray[Any]]:
    """The weights of safetensors files that :func:`encode_file` puts into cells, by name."""
    with Weights(source) as reader:
        names = _names_in_cells(reader, (), store_biases)
        return {name: numbers(reader.read(name), reader.entries[name].dtype) for name in names}


def _names_in_cells(reader: Weights, digital: Sequence[str], store_biases: bool) -> list[str]:
    if reader.metadata.get("format") == FORMAT:
        raise _arguments.wrong_value(reader.path, "the weights of a model", "one in cells")
    shapes = {name: entry.shape for name, entry in reader.entries.items()}
    names = [
        name
        for name, entry in reader.entries.items()
        if entry.dtype in FLOATS
        and belongs_in_cells(name, shapes, store_biases)
        and not any(fnmatchcase(name, pattern) for pattern in digital)
        and not _scales_float8(name, reader)
    ]
    _arguments.patterns("digital", digital, reader.entries, "a tensor")
    if not names:
        raise _arguments.wrong_value(reader.path, "a tensor to store in cells", "none")
    return names


def _scales_float8(name: str, reader: Weights) -> bool:
    """Whether a tensor has the scales of float8 weights."""
    of = [name.removesuffix(end) for end in ("_scale", "_scale_inv") if name.endswith(end)]
    return any(w in reader.entries and reader.entries[w].dtype.startswith("F8") for w in of)


def _loader(reader: Weights, mask: Literal["nonzero"] | None) -> Callable[[str], Source]:
    def load_source(name: str) -> Source:
        dtype = reader.entries[name].dtype
        return prepare(name, numbers(reader.read(name), dtype), mask, dtype=dtype)

    return load_source


def read_file(
    source: PathLike,
    path: PathLike,
    seed: int,
    chip: int = 0,
    *,
    side_errors: bool = False,
    progress: Progress | None = None,
) -> None:
    """Read a stored model back once, with noise, into a plain safetensors file.

    Memory use peaks at about twice the largest tensor. All tensors come back under all their
    names and in the dtype that they had: those in cells are read in float32 and rounded to it.

    Parameters
    ----------
    source : path-like
        What :func:`encode_file` or :func:`save` wrote.
    path : path-like
        File to write; another one than ``source``.
    seed, chip, side_errors
        As for :meth:`StoredTensor.read`.
    progress : callable, optional
        Called with the name of each tensor when it has been written.

    Raises
    ------
    FormatError, DecodeError, OSError
        As :func:`load`.
    TypeError, ValueError
        As :meth:`StoredTensor.read`; also if ``path`` is ``source``, or a weight read is beyond the
        range of its dtype.
    """
    check_output(path, source)
    with Reader(source) as reader:
        if (whole := _whole(reader)) is not None:
            model = whole.model()
            warn_of_streams(source, reader.metadata["stream_version"])
            with Writer(path, checked=False) as plain:
                read = model.read(seed, chip, side_errors=side_errors)
                _write_read_back(plain, model, read, progress)
                plain.metadata.update(whole.source_metadata)
            return
    with StoredFile(source) as file, Writer(path, checked=False) as writer:
        names: dict[str, list[str]] = {name: [name] for name in (*file.digital_names, *file.names)}
        for alias, name in file.aliases.items():
            names[name].append(alias)

        def add(name: str, array: NDArray[Any], dtype: str) -> None:
            for key in names[name]:
                writer.add(key, array, dtype)
            _report(progress, name)

        for name in file.digital_names:
            add(name, file.digital_bits(name), file.digital_dtype(name))
        for name in file.names:
            add(name, *_read_as_it_came(file.tensor(name), seed, chip, side_errors))
        writer.metadata.update(file.source_metadata)


def count_tensors(path: PathLike) -> int:
    """Tensors of a stored model, in cells or digital; errors are those of :func:`load`."""
    with Reader(path) as reader:
        if (whole := _whole(reader)) is not None:
            return len(whole)
    with StoredFile(path) as stored:
        return len(stored.names) + len(stored.digital_names)


def _write_read_back(
    writer: Writer,
    model: CodedModel | AnalogModel,
    read: Mapping[str, F32],
    progress: Progress | None,
) -> None:
    """Write what a model was read as, under all names."""
    for name, bits, dtype in digital_bits(model):
        for key in (name, *(a for a, of in model.aliases.items() if of == name)):
            writer.add(key, bits, dtype)
        _report(progress, name)
    for name, tensor in model.items():
        for key in (name, *(a for a, of in model.aliases.items() if of == name)):
            writer.add(key, as_it_came(tensor, read[name]), tensor.dtype)
        _report(progress, name)


def _read_as_it_came(
    stored: StoredTensor, seed: int, chip: int, side_errors: bool
) -> tuple[NDArray[Any], str]:
    return as_it_came(stored, stored.read(seed, chip, side_errors=side_errors)), stored.dtype


class _StoredWriter(Writer):
    """Writes tensors in cells and digital ones, and the metadata that describe them."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        self.kind = "model"
        self.cost = total(())
        self._codecs: dict[Codec, int] = {}
        self._records: list[dict[str, Any]] = []
        self._digital: list[str] = []
        self._aliases: dict[str, str] = {}

    def store(self, tensor: StoredTensor) -> None:
        """Append a tensor in cells."""
        self.add(f"{tensor.name}.levels", tensor.levels)
        if tensor.codec.side_bits:
            self.add(f"{tensor.name}.side", tensor.side)
        if tensor.mask is not None:
            self.add(f"{tensor.name}.mask", tensor.mask)
        self._records.append(
            {
                "name": tensor.name,
                "shape": tensor.shape,
                "dtype": tensor.dtype,
                "stored": tensor.stored,
                "masked": tensor.mask is not None,
                "codec": self._codecs.setdefault(tensor.codec, len(self._codecs)),
                "ranges": tensor.ranges,
            }
        )
        self.cost = total([self.cost, tensor.cost])

    def keep(self, name: str, array: NDArray[Any], dtype: str | None = None) -> None:
        """Append a digital tensor; ``dtype`` says what it is where numpy cannot."""
        self.add(f"{name}.digital", array, dtype)
        self._digital.append(name)
        self.cost = total([self.cost, digital_cost(array, dtype)])

    def alias(self, aliases: Mapping[str, str]) -> None:
        """Note further names of tensors that have been appended."""
        check_aliases(aliases, {*self._digital, *(record["name"] for record in self._records)})
        self._aliases |= aliases

    def _finish(self) -> None:
        codecs = {"codecs": [codec.to_dict() for codec in self._codecs]}
        self.metadata |= described(self.kind, codecs, self._records, self._digital, self._aliases)
        super()._finish()


def _report(progress: Progress | None, name: str) -> None:
    if progress is not None:
        progress(name)
