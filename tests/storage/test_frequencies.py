"""Rows that are not used alike: steps, what they are worth, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells.storage import Coded, frequencies
from noisycells.storage.model import ModelInCells

CELL = nc.devices.synthetic_pcm()
ROWS, COLUMNS = 400, 32
WEIGHTS = {
    "table": np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32),
    "fc": np.random.default_rng(1).normal(size=(20, COLUMNS)).astype(np.float32),
}
USED = 1 / np.arange(1.0, ROWS + 1)  # Zipf's law


def stored(step: float, **given: Any) -> Any:
    return Coded(CELL, step=step).encode(WEIGHTS, **given)


def error_of(model: Any) -> float:
    """Mean square error of a row, as often as it is used."""
    square = np.square(model.read(1)["table"] - WEIGHTS["table"]).sum(axis=1)
    return float(USED @ square / USED.sum())


def test_steps_follow_use() -> None:
    """Errors times use are alike in all rows, and those of another tensor are as without."""
    model = stored(0.05, moments={"table": USED})
    read = model.read(1)
    square = np.square(read["table"] - WEIGHTS["table"]).mean(axis=1) * USED / USED.mean()
    expected = 0.05**2 * np.square(WEIGHTS["table"]).mean() / 12
    halves = frequencies.half_octaves(USED / USED.mean())
    for rows in np.array_split(np.arange(ROWS), 8):  # half octaves: within 2^(1/2)
        own = square[rows] / expected * 2.0 ** (halves[rows]) / (USED[rows] / USED.mean())
        assert own.mean() == pytest.approx(1, abs=0.15)
    np.testing.assert_array_equal(read["fc"], stored(0.05).read(1)["fc"])


def test_fewer_cells_for_the_same_error() -> None:
    """Against one step for all rows, where use follows Zipf's law."""
    plain = [stored(step) for step in (0.05, 0.1, 0.2)]
    cells = np.interp(
        np.log(error_of(own := stored(0.15, moments={"table": USED}))),
        np.log([error_of(model) for model in plain]),
        [model.cost.per_original for model in plain],
    )
    assert own.cost.per_original < 0.9 * cells


def test_alike_rows_are_as_without() -> None:
    alike = stored(0.2, moments={"table": np.full(ROWS, 0.3)}).read(1)
    for name, array in stored(0.2).read(1).items():
        np.testing.assert_array_equal(alike[name], array)


def test_rows_that_are_hardly_ever_used_are_0() -> None:
    used = np.ones(ROWS)
    used[7] = 1e-30
    read = stored(0.2, moments={"table": used}).read(1)
    assert not read["table"][7].any() and read["table"][6].any()


def test_a_mask_stays() -> None:
    mask = np.random.default_rng(2).random((ROWS, COLUMNS)) < 0.5
    model = stored(0.1, moments={"table": USED}, mask={"table": mask})
    read = model.read(1)["table"]
    assert not read[~mask].any() and (read[mask] != 0).mean() > 0.8
    assert model["table"].stored == mask.sum()


def test_steps_of_ones_own_by_row_and_by_name() -> None:
    codec = Coded(CELL, step={"table": 0.25, "fc": 0.5})
    read = codec.encode(WEIGHTS, moments={"table": USED}).read(1)["table"]
    steps = frequencies.row_steps(0.25, frequencies.half_octaves(USED / USED.mean()))
    multiples = read / steps
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-4)
    assert np.abs(read - WEIGHTS["table"]).max(axis=1) == pytest.approx(0.5 * steps[:, 0], rel=0.5)


def test_row_steps_are_half_octaves() -> None:
    halves = np.array([-3, -2, -1, 0, 1, 2, 3], np.int32)
    found = frequencies.row_steps(0.7, halves)[:, 0]
    assert found == pytest.approx(0.7 * 2.0 ** (-halves / 2), rel=1e-12)
    assert found[1::2].tolist() == [1.4, 0.7, 0.35]
    assert frequencies.half_octaves(np.array([1e-300, 0.25, 1.0, 8.0])).tolist() == [-80, -2, 0, 3]


def test_files(tmp_path: Path) -> None:
    model = stored(0.1, moments={"table": USED})
    nc.save(tmp_path / "table.safetensors", model)
    again = nc.load(tmp_path / "table.safetensors")
    assert isinstance(again, ModelInCells)
    for name, array in model.read(3).items():
        np.testing.assert_array_equal(again.read(3)[name], array)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones(ROWS - 1), r"moments: expected shape \(400,\), how often each row of 'table' is"),
        (np.zeros(ROWS), r"moments: expected numbers above 0 for each row of 'table', got 0 to 0"),
        (np.full(ROWS, np.nan), r"moments: expected numbers above 0 for each row"),
        (np.ones((ROWS, ROWS)), r"moments: expected shape \(32, 32\) for 'table'"),
    ],
)
def test_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stored(0.2, moments={"table": given})


def test_modes_of_alike_cells_take_them(simd_level: str) -> None:
    """Digits and single cells are the same for all rows: use changes nothing."""
    for codec in (nc.storage.Levels(CELL, radices=(3, 4)), nc.storage.Analog(CELL)):
        plain = codec.encode(WEIGHTS, moments={"fc": np.eye(COLUMNS)})
        own = codec.encode(WEIGHTS, moments={"fc": np.eye(COLUMNS), "table": USED})
        for name, array in plain.read(1).items():
            np.testing.assert_array_equal(own.read(1)[name], array)


def test_plans_count_use() -> None:
    """What a plan expects of cells and loss is what is there, and the loss is less than without."""
    sensitivity = {name: np.ones(array.shape) for name, array in WEIGHTS.items()}
    losses = []
    for moments in ({"table": USED}, None):
        best = nc.storage.plan(
            WEIGHTS, CELL, budget=1.6, mode="coded", moments=moments, sensitivity=sensitivity
        ).best
        assert best.feedback == (moments is not None)
        model = best.codec.encode(WEIGHTS, moments=moments)
        assert model.cost.per_original == pytest.approx(best.per_original, rel=0.02)
        errors = {n: w.astype(np.float64) - WEIGHTS[n] for n, w in model.read(1).items()}
        used = USED / USED.mean() if moments else np.ones(ROWS)
        loss = used @ np.square(errors["table"]).sum(axis=1) + np.square(errors["fc"]).sum()
        assert loss / 2 == pytest.approx(best.loss, rel=0.05)
        losses.append(USED @ np.square(errors["table"]).sum(axis=1))
    assert losses[0] < 0.6 * losses[1]
