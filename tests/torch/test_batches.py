"""Batches in memory: each image once a pass, augmented as documented, drawn from torch's seed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402

IMAGES = torch.arange(7 * 2 * 3 * 5, dtype=torch.float32).reshape(7, 2, 3, 5) + 1
LABELS = np.arange(7)


def passed(loader: nct.Batches, seed: int = 0) -> list[torch.Tensor]:
    """Images and labels of one pass."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [torch.cat(parts) for parts in zip(*loader, strict=True)]


def test_in_order() -> None:
    loader = nct.batches(IMAGES.numpy(), LABELS, 3, shuffle=False)
    assert len(loader) == 3 and [len(labels) for _, labels in loader] == [3, 3, 1]
    images, labels = passed(loader)
    assert torch.equal(images, IMAGES) and labels.tolist() == LABELS.tolist()


def test_shuffled() -> None:
    loader = nct.batches(IMAGES, LABELS, 2)
    images, labels = passed(loader)
    assert sorted(labels.tolist()) == LABELS.tolist() and torch.equal(images, IMAGES[labels])
    assert torch.equal(labels, passed(loader)[1])
    assert not torch.equal(labels, passed(loader, seed=1)[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (torch.cat([labels for _, labels in loader]) for _ in range(2))
    assert torch.equal(first, labels) and not torch.equal(first, second)


def test_more_targets() -> None:
    loader = nct.batches(IMAGES, LABELS, 2).with_target(10 * torch.arange(7))
    _, labels, tens = passed(loader)
    assert torch.equal(tens, 10 * labels)


@pytest.mark.parametrize("channels", [1, 2])
def test_channels_last(channels: int) -> None:
    """The same images, also where one channel would leave the layout open."""
    images = IMAGES[:, :channels]
    loader = nct.batches(images, LABELS, 3, shuffle=False, layout="channels_last")
    for start, (batch, _) in zip((0, 3, 6), loader, strict=True):
        assert torch.equal(batch, images[start : start + 3])
        assert batch.stride()[1:] == (1, 5 * channels, channels)


def test_flips() -> None:
    many = IMAGES[:1].expand(400, -1, -1, -1)
    (images, _) = passed(nct.batches(many, np.zeros(400), 50, augment="flip"))
    mirrored = (images == IMAGES[0].flip(2)).all((1, 2, 3))
    assert torch.all(mirrored | (images == IMAGES[0]).all((1, 2, 3)))
    assert 155 < mirrored.sum() < 245  # 4.5 standard deviations: 7e-6 under reseeding


def test_crops_and_flips() -> None:
    """Every image is one of the 81 windows of the padded image, mirrored or not, and all occur."""
    size = 162 * 30
    many = IMAGES[:1].expand(size, -1, -1, -1)
    (images, _) = passed(nct.batches(many, np.zeros(size), 81, augment="crop-flip"))
    padded = torch.zeros(2, 3 + 8, 5 + 8)
    padded[:, 4:-4, 4:-4] = IMAGES[0]
    windows = [padded[:, y : y + 3, x : x + 5] for y in range(9) for x in range(9)]
    expected = [window for w in windows for window in (w, w.flip(2))]
    found = {image.numpy().tobytes() for image in images}
    # Each of the 162 is missing with a chance of exp(-30); windows of only padding are equal.
    assert found == {window.contiguous().numpy().tobytes() for window in expected}
    whole = (images == IMAGES[0]).all((1, 2, 3)).sum()
    assert 5 < whole < 60  # 30 expected: outside with a chance below 1e-6


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"batch_size: expected an int in .*, got 0"):
        nct.batches(IMAGES, LABELS, 0)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 7 images, got 6"):
        nct.batches(IMAGES, LABELS[1:])
    with pytest.raises(ValueError, match=r"images: expected at least one .* got 0"):
        nct.batches(IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"augment: expected one of .*'crop-flip'.* got 'turn'"):
        nct.batches(IMAGES, LABELS, augment="turn")
    with pytest.raises(ValueError, match=r"layout: expected one of .*'channels_last'.* got 'nhwc'"):
        nct.batches(IMAGES, LABELS, layout="nhwc")
    with pytest.raises(ValueError, match=r"layout: expected images of shape .* got \(7, 30\)"):
        nct.batches(IMAGES.reshape(7, 30), LABELS, layout="channels_last")
