"""Learning channels from measurements, and reading these from files.

Statistical thresholds are in standard errors: 5.5 of them are passed by chance with probability
4e-8 each, so a test that makes a few hundred comparisons fails one seed in 1e5.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisycells import devices
from noisycells.channel import Channel, measurements
from noisycells.channel.fitting import fit, scale

LIMIT = 5.5
RNG = np.random.default_rng


def draw(channel: Channel, x: np.ndarray, seed: int) -> np.ndarray:
    """Outputs of one cell for each input, by numpy's own generator."""
    return channel.mean_at(x) + channel.std_at(x) * RNG(seed).standard_normal(x.shape)


def bias(learnt: Channel, true: Channel) -> np.ndarray:
    """Mean output, less the one wanted, of true cells written through the learnt inverse."""
    lo, hi = np.max([learnt.range, true.range], axis=0)[0], np.min([learnt.range, true.range], 0)[1]
    y = np.linspace(lo, hi, 401)
    return true.mean_at(learnt.inverse(y)) - y


needs_sklearn = pytest.mark.usefixtures("sklearn")


@pytest.fixture
def sklearn() -> Any:
    return pytest.importorskip("sklearn", reason="scikit-learn not installed")


# ----------------------------------------------------------------- repeated inputs


@needs_sklearn
def test_repeated_inputs_give_the_moments_of_each_level() -> None:
    """Whatever k up to the repeats, and in any order: ties are all taken in."""
    true = devices.pcm_array()
    x = np.repeat(true.x, 100)
    y = draw(true, x, 1)
    fitted = Channel.fit(x, y)
    # On the branch noise can reverse a pair of levels, which the monotone regression then pools.
    raw = y.reshape(-1, 100).mean(axis=1)
    np.testing.assert_array_equal(fitted.x, true.x)
    kept = np.isclose(fitted.mean, raw, atol=1e-12)
    assert kept.sum() >= 34
    sd = y.reshape(-1, 100).std(axis=1, ddof=1)
    np.testing.assert_allclose(fitted.std[kept], sd[kept], rtol=1e-9)
    order = RNG(2).permutation(len(x))
    for k in (2, 10, 100):
        again = Channel.fit(x[order], y[order], neighbors=k)
        np.testing.assert_allclose(again.mean, fitted.mean, atol=1e-12)
        np.testing.assert_allclose(again.std, fitted.std, atol=1e-9)


@needs_sklearn
def test_recovers_the_measured_array_from_draws() -> None:
    true = devices.pcm_array()
    repeats = 380
    x = np.repeat(true.x, repeats)
    fitted = Channel.fit(x, draw(true, x, 3))
    # Monotone regression moves no level by more than the largest error it was given.
    assert np.abs((fitted.mean - true.mean) / true.std).max() < LIMIT / math.sqrt(repeats)
    assert np.abs(fitted.std / true.std - 1).max() < LIMIT / math.sqrt(2 * repeats)
    # The mean is flat around 2.20 V: levels there differ by no more than their errors.
    assert abs(fitted.branch[0] - true.branch[0]) <= 3 * 2 / 39 + 1e-9
    assert fitted.branch[1] == true.branch[1] == pytest.approx(1)
    assert abs(fitted.capacity(fitted.x) - true.capacity(true.x)) < 0.1


@needs_sklearn
@pytest.mark.parametrize("name", ["synthetic_pcm", "gaussian_standin"])
def test_recovers_the_stand_ins_from_draws(name: str) -> None:
    true = devices.get(name)
    levels, repeats = 33, 1000
    x = np.repeat(np.linspace(true.x[0], true.x[-1], levels), repeats)
    fitted = Channel.fit(x, draw(true, x, 4))
    at, std = fitted.x, true.std_at(fitted.x)
    assert np.abs((fitted.mean - true.mean_at(at)) / std).max() < LIMIT / math.sqrt(repeats)
    assert np.abs(fitted.std / std - 1).max() < LIMIT / math.sqrt(2 * repeats)
    assert fitted.branch == pytest.approx(true.branch, abs=0.1)


@needs_sklearn
def test_recovers_multi_level_cells_from_draws() -> None:
    for bits in (1, 2, 3):
        true = devices.get(f"rram_mlc_{bits}bit")
        x = np.repeat(true.x, 500)
        y = draw(true, x, 5)
        fitted = Channel.fit(x, y, write_bits=bits)
        np.testing.assert_allclose(fitted.mean, y.reshape(-1, 500).mean(axis=1), atol=1e-12)
        assert np.abs((fitted.mean - true.mean) / true.std).max() < LIMIT / math.sqrt(500)
        assert np.abs(fitted.std / true.std - 1).max() < LIMIT / math.sqrt(2 * 500)
        assert fitted.branch == true.branch == (-1, 1)


# ----------------------------------------------------------------- scattered inputs


@needs_sklearn
def test_mean_is_that_of_the_k_nearest() -> None:
    """Without noise on a rising mean nothing is pooled: scikit-learn's regressor is the oracle."""
    from sklearn.neighbors import KNeighborsRegressor

    x = RNG(6).uniform(-1, 1, 20_000)
    y = np.sinh(2 * x)
    for k in (3, 50):
        fitted = fit(x, y, k)
        expected = KNeighborsRegressor(k).fit(x[:, None], y).predict(fitted.x[:, None])
        np.testing.assert_allclose(fitted.mean, expected, atol=1e-9)
        order = RNG(7).permutation(len(x))
        shuffled = fit(x[order], y[order], k)
        np.testing.assert_array_equal(shuffled.mean, fitted.mean)
        np.testing.assert_array_equal(shuffled.std, fitted.std)


@needs_sklearn
@pytest.mark.parametrize("sign", [1, -1])
def test_recovers_a_curve_from_scattered_inputs(sign: int) -> None:
    """Error of the mean: noise over k neighbors, and its slope over half their width at an end."""
    synthetic = devices.synthetic_pcm()
    true = Channel(synthetic.x, sign * synthetic.mean, synthetic.std)
    n, k = 20_000, 400
    x = RNG(8).uniform(-1, 1, n)
    fitted = Channel.fit(x, draw(true, x, 9), neighbors=k)
    width = 2 * k / n
    slope = np.abs(np.gradient(true.mean, true.x)).max()
    error = np.abs(fitted.mean - true.mean_at(fitted.x))
    assert (error < LIMIT * true.std_at(fitted.x).max() / math.sqrt(k) + slope * width / 2).all()
    inner = np.abs(fitted.x) < 0.9
    ratio = fitted.std[inner] / true.std_at(fitted.x[inner])
    assert np.abs(ratio - 1).max() < LIMIT / math.sqrt(2 * k) + 0.05
    along = np.linspace(*fitted.branch, 500)
    assert (sign * np.diff(fitted.mean_at(along)) > 0).all()
    y = np.linspace(*fitted.range, 500)
    np.testing.assert_allclose(fitted.mean_at(fitted.inverse(y)), y, atol=1e-12)


@needs_sklearn
def test_automatic_neighbors_trade_noise_against_blur() -> None:
    """On average over 6 seeds (spread of the ratios: 0.08) close to the best k of all."""
    true = devices.synthetic_pcm()
    errors: dict[int | None, list[float]] = {k: [] for k in (None, 5, 45, 91, 181, 362, 1500)}
    for seed in range(6):
        x = RNG(seed).uniform(-1, 1, 3000)
        y = draw(true, x, seed + 100)
        for k, values in errors.items():
            fitted = fit(x, y, k)
            values.append(float(np.sqrt(np.mean((fitted.mean - true.mean_at(fitted.x)) ** 2))))
    chosen = np.mean(errors.pop(None))
    assert chosen < 1.5 * min(np.mean(v) for v in errors.values())
    assert chosen < 0.7 * np.mean(errors[5]) and chosen < 0.2 * np.mean(errors[1500])
    levels = np.repeat(np.linspace(-1, 1, 40), 30)
    assert fit(levels, draw(true, levels, 1)).goodness.neighbors == 30


@needs_sklearn
def test_learnt_inverse_errs_coherently() -> None:
    """k = 10 of 200 measurements leave an error near noise / sqrt(10) that cells cannot average.

    Mid-range that is 0.138 / sqrt(10) = 0.044. With 40,000 measurements it is a tenth of it.
    """
    true = devices.synthetic_pcm()
    few, many = [], []
    for seed in range(20):
        x = RNG(seed).uniform(-1, 1, 200)
        few.append(np.sqrt(np.mean(bias(Channel.fit(x, draw(true, x, seed), 10), true) ** 2)))
    for seed in range(3):
        x = np.repeat(np.linspace(-1, 1, 40), 1000)
        many.append(np.sqrt(np.mean(bias(Channel.fit(x, draw(true, x, seed)), true) ** 2)))
    assert 0.022 < np.mean(few) < 0.055
    assert max(many) < 0.01


# ----------------------------------------------------------------- branches


CURVES: list[tuple[str, Callable[[np.ndarray], np.ndarray], tuple[float, float]]] = [
    ("peak", lambda x: -((x - 0.4) ** 2), (-1, 0.4)),
    ("valley", lambda x: (x + 0.4) ** 2, (-0.4, 1)),
    ("fall", lambda x: np.where(x < -0.5, x, -0.5 - 2 * (x + 0.5)), (-0.5, 1)),
    ("wave", lambda x: np.sin(4 * x) * np.where(x > 0, 1, 0.5), (math.pi / 8, 1)),
]


@needs_sklearn
@pytest.mark.parametrize(("name", "curve", "branch"), CURVES)
def test_branch_of_a_mean_that_turns(
    name: str, curve: Callable[[np.ndarray], np.ndarray], branch: tuple[float, float]
) -> None:
    """Noise reverses the learnt mean between many neighbors, but ends no branch."""
    x = RNG(12).uniform(-1, 1, 8000)
    y = curve(x) + 0.1 * RNG(13).standard_normal(len(x))
    fitted = Channel.fit(x, y)
    assert fitted.branch == pytest.approx(branch, abs=0.2)  # ends are flat
    inside = np.linspace(branch[0] + 0.25, branch[1] - 0.25, 50)
    assert np.abs(fitted.inverse(curve(inside)) - inside).max() < 0.15


@needs_sklearn
def test_branch_may_be_given() -> None:
    x = RNG(14).uniform(-1, 1, 4000)
    fitted = Channel.fit(x, x + 0.01 * RNG(15).standard_normal(4000), branch=(-0.5, 0.5))
    assert fitted.branch == (-0.5, 0.5)


@needs_sklearn
def test_noise_free_measurements() -> None:
    x = np.linspace(-1, 1, 41)
    fitted = Channel.fit(np.repeat(x, 3), np.repeat(x**3, 3))
    np.testing.assert_allclose(fitted.mean, x**3, atol=1e-12)
    assert fitted.std.max() < 1e-7
    assert fitted.branch == (-1, 1)


# ----------------------------------------------------------------- goodness of fit


@needs_sklearn
def test_goodness_of_a_gaussian_channel() -> None:
    true = devices.synthetic_pcm()
    x = RNG(16).uniform(-1, 1, 20_000)
    goodness = fit(x, draw(true, x, 17), 400).goodness
    n = goodness.samples
    assert n == 20_000 and goodness.neighbors == 400
    # Each learnt over 400 neighbors, z departs from the standard normal by O(1 / 400).
    slack = 0.01
    assert abs(goodness.z_mean) < LIMIT / math.sqrt(n) + slack
    assert abs(goodness.z_std - 1) < LIMIT / math.sqrt(2 * n) + slack
    for share, expected in ((goodness.within_1, 0.6827), (goodness.within_2, 0.9545)):
        assert abs(share - expected) < LIMIT * math.sqrt(expected * (1 - expected) / n) + slack
    assert abs(goodness.skewness) < LIMIT * math.sqrt(6 / n) + slack
    assert abs(goodness.excess_kurtosis) < LIMIT * math.sqrt(24 / n) + 0.15  # a heavy right tail
    assert goodness.normality > 1e-8
    rms = math.sqrt(np.mean(true.std_at(x) ** 2))
    assert goodness.residual_rms == pytest.approx(rms, rel=0.05)
    assert goodness.mean_error == pytest.approx(rms / 20, rel=0.1)


@needs_sklearn
def test_goodness_tells_noise_that_is_not_gaussian() -> None:
    x = np.repeat(np.linspace(-1, 1, 20), 100)
    goodness = fit(x, x + 0.1 * RNG(18).exponential(size=2000)).goodness
    assert goodness.skewness > 1 and goodness.excess_kurtosis > 1
    assert goodness.normality < 1e-9


@needs_sklearn
def test_mean_error_predicts_the_error_of_the_mean() -> None:
    true = devices.synthetic_pcm()
    x = np.repeat(np.linspace(-1, 1, 33), 100)
    ratios = []
    for seed in range(20):
        fitted = fit(x, draw(true, x, seed))
        actual = np.sqrt(np.mean((fitted.mean - true.mean_at(fitted.x)) ** 2))
        ratios.append(actual / fitted.goodness.mean_error)
    # 33 squared normals of unequal size each: a spread of 0.16, measured over 150 seeds.
    assert 0.7 < np.mean(ratios) < 1 + LIMIT * 0.16 / math.sqrt(20)


# ----------------------------------------------------------------- errors

GOOD = np.linspace(0, 1, 20)
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": GOOD[:9], "y": GOOD[:9]}, ValueError, r"x: expected at least 10 measurements, got 9"),
    ({"y": GOOD[:19]}, ValueError, r"y: expected one for each x, 20, got 19"),
    ({"x": np.where(GOOD > 0.9, np.nan, GOOD)}, ValueError, r"x: expected finite .* nan at 18"),
    ({"y": np.where(GOOD > 0.9, np.inf, GOOD)}, ValueError, r"y: expected finite .* inf at 18"),
    ({"x": ["a"] * 20}, TypeError, r"x: expected real numbers, got <U1"),
    ({"x": np.ones(20)}, ValueError, r"x: expected at least two distinct inputs, got only 1.0"),
    ({"y": np.ones(20)}, ValueError, r"y: does not depend on x beyond its noise"),
    ({"neighbors": 1}, ValueError, r"neighbors: expected an int in \[2, 20\], got 1"),
    ({"neighbors": 21}, ValueError, r"neighbors: expected an int in \[2, 20\], got 21"),
    ({"neighbors": 20}, ValueError, r"y: does not depend on x beyond its noise"),
    ({"neighbors": 3.0}, TypeError, r"neighbors: expected an int, got 3.0"),
    ({"neighbors": True}, TypeError, r"neighbors: expected an int, got True"),
]


@needs_sklearn
@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_measurements_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    good: dict[str, Any] = {"x": GOOD, "y": GOOD, "neighbors": 3}
    Channel.fit(**good)
    with pytest.raises(error, match=message):
        Channel.fit(**{**good, **change})


@needs_sklearn
def test_noise_alone_is_refused() -> None:
    x = RNG(19).uniform(-1, 1, 1000)
    with pytest.raises(ValueError, match="y: does not depend on x beyond its noise"):
        Channel.fit(x, RNG(20).standard_normal(1000), neighbors=50)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(ImportError, match=r"pip install 'noisycells\[sklearn\]'"):
        Channel.fit(GOOD, GOOD)


# ----------------------------------------------------------------- files and scales


def read_csv(path: Path, x: Any = 0, y: Any = 1) -> tuple[np.ndarray, np.ndarray]:
    found = measurements.read(path, "cell", x, y)
    return found.x, found.y


def test_misspelt_headings_and_pooled_times_are_refused(tmp_path: Path) -> None:
    rows = "1,2,3\n2,3,4\n"
    for heading, message in (
        ("tagret,measured,time", r"unknown column 'tagret'; did you mean 'target'"),
        ("target,mesured,time", r"unknown column 'mesured'; did you mean 'measured'"),
        ("target,measured,tme", r"unknown column 'tme'; did you mean 'time'"),
        ("target (kS),measured,time", r"unit of target .* got 'kS'"),
        ("target,target,measured", r"2 columns may be 'target'"),
        ("volt,ohm,time", r"which a cell would pool"),
    ):
        with pytest.raises(ValueError, match=message):
            measurements.read(write(tmp_path / "m.csv", f"{heading}\n{rows}"))


def test_units_marks_and_encodings(tmp_path: Path) -> None:
    for text, encoding in (
        ("Target (nS),MEASURED [mS],Time (h)\n1500,0.002,1\n", "utf-8"),
        ("target_uS;measured (\u00b5S);hours\n1,5;2;1\n", "latin-1"),
        ("target\tmeasured\ttime / min\n1,5\t2,0\t60\n", "utf-16"),
    ):
        found = measurements.read(write(tmp_path / "m.csv", text, encoding))
        assert found.kind == "device" and found.seconds is not None
        assert (found.x[0], found.y[0], found.seconds[0]) == pytest.approx((1.5, 2.0, 3600.0))


@needs_sklearn
def test_outliers_are_told_and_left_out() -> None:
    x = np.repeat(np.linspace(0, 25, 21), 96)
    y = x + 2 * RNG(0).standard_normal(len(x))
    y[::168] += 238
    with pytest.warns(UserWarning, match="12 of 2016 measurements"):
        assert fit(x, y).goodness.residual_rms > 15
    learnt = fit(x, y, robust=True)
    assert learnt.goodness.outliers == 12
    assert abs(learnt.goodness.residual_rms / 2 - 1) < LIMIT / math.sqrt(2 * 2004)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_read_csv(tmp_path: Path) -> None:
    expected = ([1.0, 2.0, -3e-2], [10.0, 20.0, 30.0])
    body = "1,a,10\n2,b,20\n\n# a remark\n-3e-2 ,c, 30\n"
    for text, x, y in (
        (body, 0, 2),
        ("volts,cell,ohms\n" + body, 0, 2),
        ("# made on a bench\nvolts, cell, ohms\n" + body, "volts", "ohms"),
        ("\ufeffvolts,cell,ohms\r\n" + body.replace("\n", "\r\n"), "volts", "ohms"),
    ):
        got = read_csv(write(tmp_path / "m.csv", text), x, y)
        assert (got[0].tolist(), got[1].tolist()) == expected
    assert read_csv(write(tmp_path / "two.csv", "1,2\n3,4\n"))[1].tolist() == [2, 4]


BAD_FILES: list[tuple[str, Any, Any, str]] = [
    ("", 0, 1, r"m.csv: no measurements in it"),
    ("a,b\n", "a", "b", r"m.csv: no measurements in it"),
    ("a,b\n1,2\n", "a", "c", r"m.csv: no column 'c', the header has a, b"),
    ("1,2\n", "a", "b", r"m.csv: has no header line to find column 'a' in"),
    ("1,2\n", 0, 2, r"m.csv: no column 2, the first line has 2"),
    ("1,2\n", -1, 0, r"m.csv: no column -1"),
    ("a,b\n1,2\n3\n", "a", "b", r"m.csv, line 3: no column 'b', the line has 1"),
    ("a,b\n1,2\n\n3,x\n", "a", "b", r"m.csv, line 4, column 'b': 'x' is no finite number"),
    ("1,2\n3,\n", 0, 1, r"m.csv, line 2, column 1: '' is no finite number"),
    ("1,2\ninf,3\n", 0, 1, r"m.csv, line 2, column 0: 'inf' is no finite number"),
    ("1,nan\n", 0, 1, r"m.csv, line 1, column 1: 'nan' is no finite number"),
]


@pytest.mark.parametrize(("text", "x", "y", "message"), BAD_FILES)
def test_bad_files_are_named(tmp_path: Path, text: str, x: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv(write(tmp_path / "m.csv", text), x, y)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_csv(tmp_path / "none.csv")


def test_scale() -> None:
    assert scale([2, 3, 4]).tolist() == [-1, 0, 1]
    np.testing.assert_allclose(scale([1e3, 1e4, 1e5], log=True), [-1, 0, 1], atol=1e-15)
    with pytest.raises(
        ValueError, match="values: expected positive ones for a logarithmic scale, got 0"
    ):
        scale([0, 1], log=True)
    with pytest.raises(ValueError, match=r"values: expected ones that differ, got only 2\.0"):
        scale([2, 2])
    for bad in ([], [1, np.nan]):
        with pytest.raises(ValueError, match="values: expected finite numbers, at least one"):
            scale(bad)


@needs_sklearn
def test_from_file_to_json(tmp_path: Path) -> None:
    true = devices.gaussian_standin()
    x = np.repeat(np.linspace(-0.65, 0.75, 20), 20)
    y = draw(true, x, 21)
    lines = "".join(f"{a!r},{b!r}\n" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    fitted = Channel.fit(*read_csv(write(tmp_path / "m.csv", "x,y\n" + lines), "x", "y"))
    again = Channel.from_json(fitted.to_json())
    assert again == fitted == Channel.fit(x, y) and again.goodness == fitted.goodness
    assert again.branch == fitted.branch
