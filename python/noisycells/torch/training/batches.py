"""Batches of images held in memory: shuffled, augmented, shared out over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from ... import _arguments

__all__ = ["Batches", "batches", "channels_last", "process"]

PADDING = 4  # pixels on each side of an image before it is cropped (He et al. 2016, section 4.2)


@dataclass(frozen=True, eq=False)
class Batches:
    """Images and what belongs to each, a batch at a time; made by :func:`batches`.

    Every pass over it is another order and another augmentation, drawn from torch's default
    generator: the pass is a function of that generator's state. Where torch.distributed is
    initialized, every process takes its share of the same order, all shares of one size (up to
    one image a process is left out), and ``batch_size`` is what one process takes.

    Parameters
    ----------
    images : Tensor, shape (n, ...)
    targets : tuple of Tensor, each of shape (n, ...)
        The labels, and what else a loss needs of each image.
    batch_size : int
    shuffle : bool
    augment : {None, "flip", "crop-flip"}
    layout : {"contiguous", "channels_last"}
    """

    images: Tensor
    targets: tuple[Tensor, ...]
    batch_size: int
    shuffle: bool = True
    augment: str | None = None
    layout: str = "contiguous"

    def __post_init__(self) -> None:
        _arguments.count("batch_size", self.batch_size)
        _arguments.flag("shuffle", self.shuffle)
        if len(self.images) < process()[1]:
            raise _arguments.wrong_value(
                "images", "at least one a process", f"{len(self.images)} for {process()[1]}"
            )
        for target in self.targets:
            if len(target) != len(self.images):
                raise _arguments.wrong_value(
                    "labels", f"one for each of {len(self.images)} images", len(target)
                )
        _arguments.choice("augment", self.augment, AUGMENTATIONS)
        _arguments.choice("layout", self.layout, LAYOUTS)
        if self.layout == "channels_last" and self.images.ndim != 4:
            raise _arguments.wrong_value(
                "layout",
                "images of shape (n, channels, height, width) for channels_last",
                tuple(self.images.shape),
            )

    def __len__(self) -> int:
        """Batches a pass."""
        return math.ceil(len(self.images) // process()[1] / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one pass: images, then one tensor for each of the targets."""
        rank, processes = process()
        size = len(self.images)
        order = torch.randperm(size) if self.shuffle else torch.arange(size)
        order = order[rank : size - size % processes : processes].to(self.images.device)
        for rows in order.split(self.batch_size):
            yield self.prepare(self.images[rows]), *(target[rows] for target in self.targets)

    def prepare(self, images: Tensor) -> Tensor:
        """Augmented, and laid out as the batches are."""
        return LAYOUTS[self.layout](AUGMENTATIONS[self.augment](images))

    def with_target(self, target: Tensor) -> Batches:
        """The same batches, each with the rows of one more tensor of shape (n, ...)."""
        return replace(self, targets=(*self.targets, target))


def batches(
    images: npt.NDArray[np.float32] | Tensor,
    labels: npt.NDArray[np.int64] | Tensor,
    batch_size: int = 100,
    *,
    shuffle: bool = True,
    augment: str | None = None,
    layout: str = "contiguous",
    device: torch.device | str | None = None,
) -> Batches:
    """A loader for :func:`fit` of images in memory.

    Parameters
    ----------
    images : ndarray of float32 or Tensor, shape (n, channels, height, width)
        Normalized; any shape (n, ...) where nothing is augmented.
    labels : ndarray of int64 or Tensor, shape (n,)
    batch_size : int
        Images a step, at least 1; the last batch of a pass may be smaller.
    shuffle : bool
        Draw a new order each pass; without it, the order is that of ``images``.
    augment : {None, "flip", "crop-flip"}
        "flip" mirrors every second image, on average, left to right (Isik et al. 2020, appendix
        B); "crop-flip" also shifts each by up to 4 pixels, zeros coming in from outside (He et
        al. 2016, section 4.2).
    layout : {"contiguous", "channels_last"}
        Of images in memory. Channels last, a convolution on a CPU takes about half the time and
        rounds in another order; a model that takes a ``view`` of images or feature maps may
        refuse it.
    device : torch.device or str, optional
        Where the images are kept; where they are, by default.

    Raises
    ------
    ValueError
        If ``batch_size`` is below 1, ``augment`` or ``layout`` is none of the above, there are no
        images, or not as many labels.
    """
    x, y = torch.as_tensor(images, device=device), torch.as_tensor(labels, device=device)
    return Batches(x, (y,), batch_size, shuffle, augment, layout)


def process() -> tuple[int, int]:
    """This process's number among those of torch.distributed, and how many they are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def channels_last(images: Tensor) -> Tensor:
    """A copy of images, laid out channels last."""
    # Not images.contiguous(...), which leaves the strides alone where there is one channel.
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def _flip(images: Tensor) -> Tensor:
    mirrored = (torch.rand(len(images)) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _crop(images: Tensor) -> Tensor:
    size, _, height, width = images.shape
    shifts = torch.randint(2 * PADDING + 1, (2, size, 1)).to(images.device)
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    padded = F.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    image = torch.arange(size, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


AUGMENTATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda images: images,
    "flip": _flip,
    "crop-flip": lambda images: _flip(_crop(images)),
}

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda images: images,
    "channels_last": channels_last,
}
