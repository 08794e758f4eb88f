"""Single analog cells in a closed loop: cells, maps, rotation, feedback, and all together."""

from __future__ import annotations

import numpy as np
import pytest

import noisycells as nc
from noisycells.reference.closed_loop import closed_loop
from noisycells.storage import Analog
from noisycells.storage.analog import (
    CellArray,
    Rotation,
    bias_weight,
    design,
    gaussian_source,
    histogram_source,
)
from noisycells.storage.analog.loop import Programming, _write, feedback, program

CELL = nc.devices.synthetic_pcm()
N = 20_000


def correlated(n: int, seed: int = 0) -> np.ndarray:
    """Second moments of inputs of which few directions carry most."""
    mixing = np.random.default_rng(seed).standard_normal((n, n)) * np.arange(1, n + 1) ** -1.0
    return mixing @ mixing.T + 0.01 * np.eye(n)


def weights(rows: int, n: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((rows, n)).astype(np.float32)


# --------------------------------------------------------------------------- cells


def test_a_pulse_and_a_read_are_the_noise_of_the_channel() -> None:
    """Mean, total variance and that of reads at one input; thresholds 6 standard errors."""
    cells = CellArray(CELL, N, chip=3)
    x = np.full(N, 0.2)
    cells.write(x)
    first, second = cells.read(seed=1), cells.read(seed=2)
    programmed, read = CELL.std_parts_at(0.2)
    assert np.hypot(programmed, read) == pytest.approx(float(CELL.std_at(0.2)))
    assert first.mean() == pytest.approx(
        float(CELL.mean_at(0.2)), abs=6 * CELL.std_at(0.2) / N**0.5
    )
    assert first.var() == pytest.approx(float(CELL.std_at(0.2)) ** 2, rel=6 * (2 / N) ** 0.5)
    assert (first - second).var() / 2 == pytest.approx(read**2, rel=6 * (2 / N) ** 0.5)
    averaged = cells.read(seed=3, reads=4) - cells.read(seed=4, reads=4)
    assert averaged.var() / 2 == pytest.approx(read**2 / 4, rel=6 * (2 / N) ** 0.5)


def test_another_pulse_is_another_error_of_those_cells_alone() -> None:
    cells = CellArray(CELL, 1000, chip=3, name="w")
    cells.write(np.zeros(1000))
    before = cells._level.copy()
    where = np.arange(400) < 150
    cells.write(np.zeros(400), 100, where)
    changed = cells._level != before
    assert changed.sum() == 150 and changed[100:250].all()
    assert cells.pulses.sum() == 1150
    seen = cells.verify(5, 100, 400, where)
    assert cells.verified.sum() == 750 and seen.shape == (400,)
    correlation = np.corrcoef(before[100:250], cells._level[100:250])[0, 1]
    assert abs(correlation) < 5 / 150**0.5


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """In standard errors."""
    return float(np.corrcoef(a, b)[0, 1]) * a.size**0.5


def test_every_pulse_and_every_look_has_noise_of_its_own() -> None:
    """Also where cells of a run had more pulses than others, and without a pulse in between."""
    cells = CellArray(CELL, N, chip=3)
    few = np.arange(N) >= N // 2
    errors = []
    for where in (np.ones(N, bool), ~few, few, few):
        cells.write(np.zeros(N), where=where)
        errors.append(cells._level[few].astype(np.float64))
    assert (errors[0] == errors[1]).all() and (errors[1] != errors[2]).all()
    assert abs(correlation(errors[1], errors[2])) < 6 and abs(correlation(*errors[2:])) < 6
    looks = [cells.verify(1, 0, N, few) - cells._level for _ in range(3)]
    cells.write(np.zeros(N), where=few)
    looks.append(cells.verify(1, 0, N, few) - cells._level)
    for i in range(4):
        for j in range(i):
            assert abs(correlation(looks[i], looks[j])) < 6


def test_same_chip_same_draws() -> None:
    def read(chip: int, name: str, seed: int) -> np.ndarray:
        cells = CellArray(CELL, 50, chip, name)
        cells.write(np.zeros(50))
        return cells.read(seed)

    assert np.array_equal(read(1, "a", 2), read(1, "a", 2))
    others = [read(2, "a", 2), read(1, "b", 2), read(1, "a", 3)]
    assert not any(np.isclose(read(1, "a", 2), other).any() for other in others)


def test_offsets_and_stuck_cells_stay_over_pulses() -> None:
    x = np.linspace(-1, 1, 9)
    channel = nc.Channel(x, x, 1e-6, read_std=0.0, d2d_std=0.1, stuck=(0.1, 0.2))
    cells = CellArray(channel, N, chip=1)
    cells.write(np.zeros(N))
    first = cells.read(seed=1)
    cells.write(np.full(N, 0.25))
    second = cells.read(seed=1)
    moved = second - first
    stuck = np.abs(moved) < 1e-4
    assert stuck.mean() == pytest.approx(0.3, abs=6 * (0.21 / N) ** 0.5)
    assert moved[~stuck] == pytest.approx(0.25, abs=1e-4)
    assert (first[stuck] < 0).mean() == pytest.approx(1 / 3, abs=6 * (0.25 / (0.3 * N)) ** 0.5)
    assert first[~stuck].std() == pytest.approx(0.1, rel=6 * (0.5 / N) ** 0.5 + 0.01)


def test_converters() -> None:
    x = np.linspace(-1, 1, 9)
    channel = nc.Channel(x, x, 0.01, read_std=0.01, write_bits=3, read_bits=4)
    cells = CellArray(channel, 500)
    cells.write(np.full(500, 0.1))
    levels = channel._read_converter.dequantize(np.arange(16, dtype=np.int32))
    assert np.isin(cells.read(seed=1).astype(np.float32), levels).all()
    written = cells.written(np.array([0.1, 0.12]))
    assert written[0] == written[1] == pytest.approx(1 / 7)


def test_a_channel_without_read_noise_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channel: expected one with read_std"):
        Analog(nc.devices.pcm_array()).program({"w": weights(2, 4)})


# --------------------------------------------------------------------------- maps


def simulated(found, values: np.ndarray, reads: int = 1) -> np.ndarray:
    cells = CellArray(CELL, values.size, chip=9)
    cells.write(CELL.inverse(found.encode(values)))
    return found.decode(cells.read(seed=4, reads=reads))


def test_map_of_a_gaussian_is_as_good_as_known() -> None:
    """11.04 dB for least squares, 9.29 dB unbiased, by another program for this cell."""
    values = np.random.default_rng(1).standard_normal(100_000)
    for bias, expected in ((1.0, 11.04), (15.0, 9.29)):
        error = simulated(design(CELL, gaussian_source(), bias=bias), values) - values
        assert -10 * np.log10(np.mean(error**2)) == pytest.approx(expected, abs=0.12)


def test_expected_and_bias_are_means_of_what_is_read() -> None:
    """Of 40,000 cells with one value each time; 6 standard errors, and 0.004 for the grids."""
    found = design(CELL, gaussian_source())
    for value in (-2.0, -0.3, 1.1):
        back = simulated(found, np.full(40_000, value))
        bound = 6 * back.std() / 200 + 0.004
        assert back.mean() - value == pytest.approx(found.bias(np.array(value)), abs=bound)
        target = found.encode(np.array([value]))
        std = CELL.std_at(CELL.inverse(target))
        assert back.mean() == pytest.approx(found.expected(target, std)[0], abs=bound)


def test_a_larger_weight_of_the_bias_leaves_less_of_it() -> None:
    values, p = gaussian_source()
    bias = [p @ design(CELL, (values, p), bias=b).bias(values) ** 2 for b in (1.0, 15.0, 60.0)]
    assert bias[0] > 4 * bias[1] > 8 * bias[2]


def test_a_map_for_a_loop_is_better_there() -> None:
    """Where programming errors cost a twentieth of those of reads; else it is the worse one."""
    values = np.random.default_rng(1).standard_normal(100_000)
    maps = [design(CELL, gaussian_source(), programming=s, bias=s) for s in (1.0, 0.05)]
    parts = []
    for found in maps:
        cells = CellArray(CELL, values.size, chip=9)
        x = CELL.inverse(found.encode(values))
        cells.write(x)
        mean = found.expected(cells._level.astype(np.float64), CELL.std_parts_at(x)[1])
        read = np.mean((found.decode(cells.read(seed=4)) - mean) ** 2)
        parts.append((read, np.mean((mean - values) ** 2)))
    (read, programmed), (loop_read, loop_programmed) = parts
    assert loop_read + 0.05 * loop_programmed < 0.95 * (read + 0.05 * programmed)
    assert loop_read + loop_programmed > read + programmed


def test_histogram_keeps_the_mean_and_refuses_constants() -> None:
    values = np.random.default_rng(1).laplace(size=5000)
    points, p = histogram_source(values)
    assert p.sum() == pytest.approx(1) and (np.diff(points) > 0).all()
    assert p @ points == pytest.approx(values.mean())
    assert p @ points**2 == pytest.approx(values.var() + values.mean() ** 2, rel=0.01)
    with pytest.raises(ValueError, match=r"values: expected numbers that differ, got one number"):
        histogram_source(np.ones(4))


# --------------------------------------------------------------------------- rotation


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 12, 384])
def test_rotation_is_orthonormal(n: int) -> None:
    rotation = Rotation(n, seed=1)
    matrix = rotation.apply(np.eye(n))
    assert matrix @ matrix.T == pytest.approx(np.eye(n), abs=1e-12)
    vectors = np.random.default_rng(2).standard_normal((3, n))
    assert rotation.undo(rotation.apply(vectors)) == pytest.approx(vectors, abs=1e-12)
    moments = correlated(n)
    assert rotation.of_moments(moments) == pytest.approx(matrix.T @ moments @ matrix, abs=1e-9)
    if n > 1:
        assert not np.allclose(matrix, Rotation(n, seed=2).apply(np.eye(n)))


def test_rotation_makes_heavy_tails_gaussian() -> None:
    heavy = np.random.default_rng(3).standard_t(3, (50, 384))
    rotated = Rotation(384).apply(heavy)
    kurtosis = [np.mean((v / v.std(1, keepdims=True)) ** 4) for v in (heavy, rotated)]
    assert kurtosis[0] > 5 and kurtosis[1] == pytest.approx(3, abs=0.5)


# --------------------------------------------------------------------------- the loop


@pytest.mark.parametrize("how", [Programming(1, 1, 1.0, 1), Programming(3, 4, 0.5, 2)])
def test_loop_is_the_slow_definition(how: Programming) -> None:
    """Across blocks of inputs, in the order of the feedback, with the same cells."""
    rows, n = 5, 150
    values, moments = weights(rows, n).astype(np.float64), correlated(n)
    cell_map = design(CELL, gaussian_source())
    to = feedback(moments, 0.02)
    fast = CellArray(CELL, rows * n, chip=2)
    found = program(values, fast, cell_map, how, to)
    slow = CellArray(CELL, rows * n, chip=2)
    damped = moments + 0.02 * np.diag(moments).mean() * np.eye(n)
    _, expected = closed_loop(
        values[:, to.order],
        damped[np.ix_(to.order, to.order)],
        lambda j, v: _write(v, int(to.order[j]) * rows, slow, cell_map, how),
    )
    assert found[:, to.order] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(fast.pulses, slow.pulses)
    assert np.allclose(fast._level, slow._level, atol=1e-5)


def test_what_is_left_of_an_error_that_is_fed_on() -> None:
    """For uncorrelated inputs nothing can be undone."""
    assert feedback(np.eye(30), 0.0).remaining == pytest.approx(1)
    assert feedback(correlated(60), 0.01).remaining < 0.5


def output_error(programmed, w: np.ndarray, moments: np.ndarray, reads: int | None = None) -> float:
    error = programmed.read(7, reads)["w"].astype(np.float64) - w
    return float(np.sum((error @ moments) * error) / np.sum((w @ moments) * w))


def test_feedback_verifying_pulses_and_reads_each_help() -> None:
    n = 128
    w, moments = weights(64, n), correlated(n)
    errors = [
        output_error(Analog(CELL, **how).program({"w": w}, {"w": moments}, chip=1), w, moments)
        for how in (
            {"verify_reads": 0},
            {"verify_reads": 1},
            {"verify_reads": 100},
            {"verify_reads": 4, "pulses": 6},
            {"verify_reads": 4, "pulses": 6, "reads": 4},
        )
    ]
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < errors[1]
    assert errors[3] < 0.9 * errors[1]
    assert errors[4] < 0.75 * errors[3]


def test_open_loop_takes_the_bias_weight_of_the_inputs() -> None:
    """Large weights are shrunk; where their inputs come together, so do the errors."""
    grades = np.sort(np.random.default_rng(6).laplace(size=64))
    w = 0.05 * weights(16, 64) + grades.astype(np.float32)
    together = np.eye(64)
    together[-8:, -8:] = 1
    analog = Analog(CELL, verify_reads=0, rotate=False)
    plain = analog.program({"w": w})["w"].cell_map
    unbiased = analog.program({"w": w}, {"w": together})["w"].cell_map
    assert (
        np.abs(unbiased.bias(plain.values)).mean() < 0.6 * np.abs(plain.bias(plain.values)).mean()
    )


def test_bias_weight() -> None:
    error = np.random.default_rng(1).standard_normal((200, 30))
    assert bias_weight(error, np.eye(30)) == pytest.approx(1)
    assert bias_weight(np.ones((4, 30)), np.ones((30, 30))) == pytest.approx(30)
    assert bias_weight(np.ones((4, 100)), np.ones((100, 100))) == 60
    assert bias_weight(np.zeros((4, 3)), np.eye(3)) == 1


# --------------------------------------------------------------------------- all together


def test_shapes_cost_and_reproducibility() -> None:
    model = {"linear": weights(8, 12), "conv": weights(4, 18).reshape(4, 2, 3, 3)}
    moments = {"conv": correlated(18)}
    analog = Analog(CELL, pulses=3, verify_reads=2, reads=4)
    programmed = analog.program(model, moments, chip=5)
    back = programmed.read(seed=1)
    assert {name: value.shape for name, value in back.items()} == {
        "linear": (8, 12), "conv": (4, 2, 3, 3),
    }  # fmt: skip
    assert all(value.dtype == np.float32 for value in back.values())
    again = analog.program(model, moments, chip=5)
    for name, value in again.read(seed=1).items():
        assert np.array_equal(value, back[name])
    other = analog.program(model, moments, chip=6).read(seed=1)
    assert not any(np.allclose(other[name], back[name]) for name in model)
    cost = programmed.cost
    assert cost.cells == cost.weights == 96 + 72
    assert cost.cells < cost.pulses <= 3 * cost.cells
    assert cost.verify_reads == 2 * cost.pulses and cost.reads == 4
    assert "168 cells for 168 weights" in str(cost)


def test_zero_rows_stay_near_zero() -> None:
    w = weights(6, 32)
    w[2] = 0
    assert np.abs(Analog(CELL).program({"w": w}).read(1)["w"]).max() < 10


def test_refusals() -> None:
    w = weights(3, 4)
    for options, message in (
        ({"pulses": 0}, r"pulses: expected an int >= 1, got 0"),
        ({"verify_reads": 0, "pulses": 2}, r"pulses: expected 1 where nothing is verified, got 2"),
        ({"bias": 0}, r"bias: expected a finite number > 0, got 0"),
        ({"tolerance": -1}, r"tolerance: expected a finite number >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Analog(CELL, **options)
    analog = Analog(CELL)
    for given, moments, message in (
        ({"w": w[0]}, {}, r"w: expected two dimensions or more, not empty, got \(4,\)"),
        ({"w": w * np.nan}, {}, r"w: expected values finite in float32"),
        ({"w": w}, {"v": np.eye(4)}, r"moments: expected names of weights \(w\), got 'v'"),
        ({"w": w}, {"w": np.eye(3)}, r"moments: expected shape \(4, 4\) for 'w', got \(3, 3\)"),
        ({"w": w}, {"w": np.triu(np.ones((4, 4)))}, r"moments: expected a symmetric matrix"),
        ({"w": w}, {"w": np.full((4, 4), np.inf)}, r"moments: expected finite values"),
        ({"w": w}, {"w": -np.eye(4)}, r"moments: expected a positive definite matrix once damped"),
    ):
        with pytest.raises(ValueError, match=message):
            analog.program(given, moments)
