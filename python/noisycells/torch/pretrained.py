"""Models of transformers on chips, in directories: save_pretrained and from_pretrained."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .. import _arguments
from ..io import Reader
from ..io.dtypes import usual_name
from .checks import check_module
from .chips import load_chip, save_chip
from .crossbar.selection import required

__all__ = ["from_pretrained", "save_pretrained"]

CHIP = "chip.safetensors"
CONFIG = "config.json"
GENERATION = "generation_config.json"


def save_pretrained(model: nn.Module, directory: str | os.PathLike[str]) -> None:
    """Write a model of transformers and the chip that it is on to a directory.

    Its configuration goes to ``config.json``, what it generates with to ``generation_config.json``,
    and all else (weights, conductances, ranges, corrections) to ``chip.safetensors``, see
    :func:`save_chip`. Other files there stay, such as those of a tokenizer or of the digital
    model, ``model.safetensors``, which :func:`from_pretrained` does not need.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Converted, programmed or not.
    directory : path-like
        Made where there is none.

    Raises
    ------
    ModuleNotFoundError
        If transformers is not installed.
    TypeError, ValueError, OSError
        As for :func:`save_chip`, and if the model is not one of transformers; nothing is then
        written.
    """
    check_module(model)
    transformers: Any = _transformers("save_pretrained")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if not isinstance(model, transformers.PreTrainedModel):
        raise _arguments.wrong_type("model", "a model of transformers", model)
    required(model)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(directory)
    if model.can_generate():
        model.generation_config.save_pretrained(directory)
    save_chip(model, Path(directory) / CHIP)


def from_pretrained(
    directory: str | os.PathLike[str], model_class: type | None = None, **options: Any
) -> nn.Module:
    """Make the model that :func:`save_pretrained` wrote, on the same chip, of the same age.

    With the same reads it gives what the saved one gave, bit for bit. Nothing is downloaded.

    Parameters
    ----------
    directory : path-like
    model_class : type, optional
        A class of transformers, an own one derived from ``PreTrainedModel``, or one of the
        ``AutoModel...``. Default: that of transformers whose name is in ``config.json``.
    **options
        Of the model's making, such as ``attn_implementation="eager"`` (``from_config`` of
        transformers); not in the files.

    Returns
    -------
    transformers.PreTrainedModel
        In ``eval()``, with the dtypes that it had.

    Raises
    ------
    ModuleNotFoundError
        If transformers is not installed.
    FormatError, DecodeError, OSError
        If the chip's file is another one, damaged, or cannot be read.
    TypeError, ValueError
        If the directory lacks a file, or the model that the configuration or ``model_class``
        makes is not the one that was saved.
    """
    transformers: Any = _transformers("from_pretrained")
    folder = Path(directory)
    missing = [name for name in (CONFIG, CHIP) if not (folder / name).is_file()]
    if missing:
        wanted = f"one that save_pretrained of noisycells.torch wrote, with {CONFIG} and {CHIP}"
        raise _arguments.wrong_value(
            "directory", wanted, f"{folder} without {' and '.join(missing)}"
        )
    settings = getattr(model_class, "config_class", None) or transformers.AutoConfig
    config = settings.from_pretrained(folder, local_files_only=True)
    kind = _named(transformers, config) if model_class is None else model_class
    make = getattr(kind, "from_config", None) or getattr(kind, "_from_config", None)
    if not isinstance(kind, type) or make is None:
        raise _arguments.wrong_type("model_class", "a class of models of transformers", kind)
    model: Any = make(config, **options)
    _take_dtypes(folder / CHIP, model)
    load_chip(folder / CHIP, model)
    if model.can_generate() and (folder / GENERATION).is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            folder, local_files_only=True
        )
    return cast(nn.Module, model.eval())


def _take_dtypes(path: Path, model: nn.Module) -> None:
    """Give the tensors of a digital model the dtypes that they have in a file."""
    with Reader(path) as reader:
        dtypes = {name: usual_name(entry.dtype) for name, entry in reader.entries.items()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in dtypes:
            tensor.data = tensor.data.to(getattr(torch, dtypes[name]))


def _transformers(name: str) -> Any:
    try:
        import transformers  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ModuleNotFoundError(
            f"{name} needs transformers, which is not installed: pip install transformers",
            name="transformers",
        ) from error
    return transformers


def _named(transformers: Any, config: Any) -> type:
    """The class of transformers that a configuration names."""
    names = config.architectures or [None]
    found = getattr(transformers, str(names[0]), None)
    if found is None:
        raise _arguments.wrong_value(
            "model_class",
            "the class of the model, which transformers does not have",
            f"None for {names[0]!r} of {CONFIG}",
        )
    kind: type = found
    return kind
