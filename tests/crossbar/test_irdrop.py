"""IR drop: effective conductances against a nodal solve of the wires."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.crossbar.irdrop import wired

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


def nodal_solve(g: F64, resistance: float) -> F64:
    """Current out of each column per volt on each row: (rows, columns), in the unit of ``g``.

    Kirchhoff's current law at both nodes of every cell. Rows are driven through a segment of
    wire at their first column, columns grounded through one behind their last row.
    """
    sparse = pytest.importorskip("scipy.sparse", reason="scipy not installed")
    from scipy.sparse.linalg import splu

    rows, columns = g.shape
    word = np.arange(rows * columns).reshape(rows, columns)
    bit = word + rows * columns
    wire = 1 / resistance
    links = [
        (word, bit, g),
        (word[:, :-1], word[:, 1:], np.full((rows, columns - 1), wire)),
        (bit[:-1], bit[1:], np.full((rows - 1, columns), wire)),
    ]
    a, b, c = (np.concatenate([part[i].ravel() for part in links]) for i in range(3))
    ends = np.concatenate([word[:, 0], bit[-1]])  # to the drivers, to ground
    one = np.full(len(ends), wire)
    matrix = sparse.csc_matrix(
        (
            np.concatenate([c, c, -c, -c, one]),
            (np.concatenate([a, b, a, b, ends]), np.concatenate([a, b, b, a, ends])),
        )
    )
    driven = np.zeros((2 * rows * columns, rows))
    driven[word[:, 0], np.arange(rows)] = wire
    voltages = splu(matrix).solve(driven)
    return voltages[bit[-1]].T * wire


def tile(rows: int, columns: int, seed: int = 0) -> F32:
    """Random conductances (2, columns, rows), uS."""
    return np.random.default_rng(seed).uniform(0, 25, (2, columns, rows)).astype(np.float32)


def wires(rows: int, columns: int, resistance: float, ir_drop: str = "first_order") -> Any:
    return nc.CrossbarSpec(
        rows=rows, cols=columns, wire_resistance_ohm=resistance, ir_drop=ir_drop, mapping="tensor"
    )


def interleaved(pair: F32 | F64) -> F64:
    """(rows, 2 columns): + and - of each output side by side, as on a tile."""
    return pair.astype(np.float64).transpose(1, 0, 2).reshape(-1, pair.shape[2]).T


class Comparison(NamedTuple):
    """Relative to the mean conductance of the tile."""

    error_rms: float
    error_max: float
    drop_rms: float


def compare(pair: F32, resistance: float, ir_drop: str = "first_order") -> Comparison:
    """Effective conductances of one tile against the nodal solve."""
    g = interleaved(pair)
    _, columns, rows = pair.shape
    exact = nodal_solve(g * 1e-6, resistance) * 1e6
    effective, _ = wired(pair, wires(rows, columns, resistance, ir_drop))
    error = (interleaved(effective) - exact) / g.mean()
    drop = (g - exact) / g.mean()
    return Comparison(
        float(np.sqrt(np.mean(error**2))),
        float(np.abs(error).max()),
        float(np.sqrt(np.mean(drop**2))),
    )


def test_one_cell_is_exact() -> None:
    """Two segments of wire and a cell in series."""
    g, r = 20.0, 100.0
    pair = np.array([[[g]], [[0]]], np.float32)
    for ir_drop in ("first_order", "exact"):
        effective, share = wired(pair, wires(1, 1, r, ir_drop))
        assert share[0, 0, 0] == pytest.approx(1 / (1 + 2 * r * g * 1e-6), rel=1e-6)
        assert effective[0, 0, 0] == pytest.approx(g * share[0, 0, 0], rel=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (16, 8), (40, 24)])
@pytest.mark.parametrize("drop", [0.01, 0.05, 0.2])
def test_nodal_solve(rows: int, columns: int, drop: float) -> None:
    """Errors of second order: a few hundredths of the drop where that is one fifth."""
    resistance = drop / (1e-6 * 12.5 * (2 * columns**2 + rows**2 / 2))
    found = compare(tile(rows, columns), resistance)
    assert 0.7 * drop < found.drop_rms < 1.6 * drop
    assert found.error_rms < 0.2 * found.drop_rms**2
    assert found.error_max < 0.7 * found.drop_rms**2


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (16, 8), (1, 5), (40, 1), (64, 64)])
@pytest.mark.parametrize("drop", [0.05, 0.7, 3.0])
def test_exact_wires_are_the_nodal_solve(rows: int, columns: int, drop: float) -> None:
    """Where wires take nearly all of the current too, and in cells that are off."""
    resistance = drop / (1e-6 * 12.5 * (2 * columns**2 + rows**2 / 2))
    pair = tile(rows, columns)
    pair[:, ::3, ::2] = 0
    assert compare(pair, resistance, "exact").error_max < 1e-6


def test_exact_wires_of_a_large_tile() -> None:
    """512 columns, where wires take 70 % of the current: within 0.2 %, the goal, and far below."""
    pair = tile(48, 256)
    found = compare(pair, 3.0, "exact")
    assert found.drop_rms > 0.7
    assert found.error_max < 1e-6


def test_sneak_currents_reach_cells_that_are_off() -> None:
    """Shares stay at most 1, though the effective conductance of such a cell is above its own."""
    pair = tile(10, 6)
    pair[0, 2, 3] = 0
    effective, share = wired(pair, wires(10, 6, 200.0, "exact"))
    assert effective[0, 2, 3] > 0
    assert share.min() >= 0
    assert share.max() <= 1
    assert share[0, 2, 3] == 0


def test_exact_wires_where_there_are_none() -> None:
    with pytest.raises(ValueError, match=r"^ir_drop: expected 'first_order' with wires of 0 ohm"):
        nc.CrossbarSpec(ir_drop="exact")


def test_error_is_of_second_order() -> None:
    pair = tile(20, 12)
    first, second = compare(pair, 1.0).error_rms, compare(pair, 0.5).error_rms
    assert 3.7 < first / second < 4.3


@pytest.mark.full
def test_mapped_weights() -> None:
    """Figures of irdrop.py: 96 x 96 normal weights on 25 uS devices, 1 ohm a segment."""
    g = np.random.default_rng(0)
    size = np.abs(g.normal(size=(96, 96))) * 0.25 * 25
    plus = g.random((96, 96)) < 0.5
    pair = np.stack([np.where(plus, size, 0.01), np.where(plus, 0.01, size)]).astype(np.float32)
    found = compare(pair, 1.0)
    assert found.drop_rms == pytest.approx(0.072, abs=0.003)
    assert found.error_rms < 8e-4


@pytest.mark.parametrize("ir_drop", ["first_order", "exact"])
def test_tiles_do_not_share_wires(ir_drop: str) -> None:
    """Of a matrix cut into tiles, each tile is as if it were alone, smaller ones at the edges."""
    pair, (rows, cols), r = tile(50, 21), (16, 8), 5.0
    whole = wired(pair, wires(rows, cols, r, ir_drop))
    for n in range(0, 21, cols):
        for k in range(0, 50, rows):
            part = pair[:, n : n + cols, k : k + rows]
            alone = wired(part, wires(rows, cols, r, ir_drop))
            for all_, one in zip(whole, alone, strict=True):
                np.testing.assert_array_equal(all_[:, n : n + cols, k : k + rows], one)


@pytest.mark.parametrize("ir_drop", ["first_order", "exact"])
def test_crossbar_outputs(ir_drop: str) -> None:
    """Products of a crossbar with wires are those of the nodal solve, tile by tile."""
    g = np.random.default_rng(3)
    w = g.normal(size=(10, 30)).astype(np.float32)
    x = g.normal(size=(4, 30)).astype(np.float32)
    spec = replace(wires(16, 8, 3.0, ir_drop), dac_bits=None, adc_bits=None)
    device = nc.devices.gaussian(0.5, g_min=1.0)
    xb = nc.Crossbar(w, device, spec).program(7)
    effective = np.zeros((10, 30))
    for n in range(0, 10, 8):
        for k in range(0, 30, 16):
            pair = xb.conductances[0, 0, :, n : n + 8, k : k + 16]
            exact = nodal_solve(interleaved(pair) * 1e-6, 3.0) * 1e6
            effective[n : n + 8, k : k + 16] = (exact[:, ::2] - exact[:, 1::2]).T
    effective *= np.abs(w).max() / (device.g_max - device.g_min)
    y, ideal = xb.matmul(x, 1), x @ xb.layer.slices[0].T
    expected = x @ effective.T
    plain = nc.CrossbarSpec(dac_bits=None, adc_bits=None, mapping="tensor")
    dropped = nc.Crossbar(w, device, plain).program(7)
    without = dropped.matmul(x, 1)
    error = np.sqrt(np.mean((y - expected) ** 2))
    effect = np.sqrt(np.mean((without - expected) ** 2))
    assert effect > 1e-3 * np.sqrt(np.mean(ideal**2))
    assert error < (0.05 if ir_drop == "first_order" else 1e-4) * effect


@pytest.mark.parametrize("ir_drop", ["first_order", "exact"])
def test_read_noise_falls_with_the_drop(ir_drop: str) -> None:
    """Noise currents go through the same wires: variances by the square of the share."""
    w = np.random.default_rng(4).normal(size=(5, 9)).astype(np.float32)
    device = nc.devices.gaussian(0.5, read_std=0.4)
    spec = replace(wires(8, 4, 50.0, ir_drop), read_noise="weight")
    xb = nc.Crossbar(w, device, spec).program(1)
    (plane,) = xb.packed.planes()
    share = wired(xb.conductances[0, 0], spec)[1].astype(np.float64)
    expected = 0.4**2 * (share**2).sum(axis=0) / 25**2
    assert plane.variance is not None
    np.testing.assert_allclose(plane.variance, expected, rtol=1e-5)


# What badcrossbar 1.1.0 (PyPI) gives for the array below, uA of each column per volt on each row.
BADCROSSBAR = [
    18.2576047, 17.5679495, 11.8189933, 6.67547542, 2.02388635, 8.59925885,
    8.97252635, 1.81238597, 1.85049614, 20.0445496, 13.2640807, 5.47438562,
    10.2792409, 20.8316261, 19.5836548, 17.5467287, 8.77581791, 10.5373756,
    13.9096087, 2.08216189, 11.4234104, 5.99557814, 17.2105047, 2.10591816,
    15.674625, 18.9977055, 5.73982001, 18.8813669, 18.6883268, 1.27802305,
    14.8409864, 0.91032856, 10.6806033, 9.34426974, 4.79376001, 7.26421595,
    18.6121472, 7.58953962, 4.10358323, 15.0267299, 10.0503196, 16.7438623,
    5.51265582, 7.24213661, 16.1994572, 10.5606016, 10.4505651, 5.42219604,
    1.26098267, 20.6880804, 2.7387576, 17.8908782, 8.28784069, 19.3901802,
    8.53566806, 18.8883398, 11.2343834, 5.31358065, 14.4452774, 13.3432572,
    16.3616021, 11.0253684, 5.73965808, 14.2399847, 3.12056495, 14.8569369,
    13.5231595, 8.37211632, 16.3586626, 4.61374288, 8.34095486, 16.2032467,
    9.61254153, 16.5340585, 14.0307112, 20.2648054, 20.9498578, 15.1602204,
    16.5717854, 3.78600527, 14.3263085, 16.7565428, 8.31664273, 11.1598935,
]  # fmt: skip


def test_nodal_solve_of_others() -> None:
    """The oracle itself, against an independent one."""
    g = np.random.default_rng(5).uniform(1e-6, 25e-6, (7, 12))
    currents = np.reshape(BADCROSSBAR, (7, 12)) * 1e-6
    np.testing.assert_allclose(nodal_solve(g, 200.0), currents, rtol=1e-8)
