"""The modes coded and levels: what is stored, what is read, what it costs, in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells.storage import (
    Coded,
    CodedModel,
    Levels,
    encode_file,
    feedback,
    load,
    read_file,
    save,
)
from noisycells.storage.modes.sections import join, split

PCM = nc.devices.synthetic_pcm()
RNG = np.random.default_rng(7)
DENSE = RNG.standard_normal((64, 100)).astype(np.float32)
WEIGHTS: dict[str, NDArray[Any]] = {
    "dense.weight": np.where(np.abs(DENSE) > 1, DENSE, 0).astype(np.float32),
    "conv.weight": 0.1 * RNG.standard_normal((8, 4, 3, 3)),
    "dense.bias": RNG.standard_normal(64).astype(np.float16),
    "empty": np.empty((0, 3), np.float32),
    "zero": np.zeros((2, 2), np.float32),
    "scalar": np.array(1.5, np.float32),
}
MASKS = {"dense.weight": WEIGHTS["dense.weight"] != 0}
MODES = [
    Coded(PCM, step=0.3),
    Coded(PCM, step=0.05, levels=4),
    Coded(PCM, step=dict.fromkeys(WEIGHTS, 0.01)),
    Levels(PCM),
    Levels(PCM, radices=(3, 4), block=16),
]
modes = pytest.mark.parametrize("codec", MODES, ids=repr)


@modes
def test_read_back(codec: Coded | Levels) -> None:
    stored = codec.encode(WEIGHTS, MASKS)
    read = stored.read(seed=1)
    assert read.keys() == WEIGHTS.keys()
    for name, weights in WEIGHTS.items():
        assert read[name].shape == weights.shape and read[name].dtype == np.float32
        spread = max(float(np.abs(weights).max(initial=0)), 1e-9)
        assert np.abs(read[name] - weights).mean() < 0.2 * spread if weights.size else True
    assert (read["dense.weight"][~MASKS["dense.weight"]] == 0).all()
    assert (read["zero"] == 0).all()
    with pytest.raises(ValueError, match="side_errors: expected False"):
        stored.read(seed=1, side_errors=True)


def test_coded_values_are_multiples_of_the_step_and_exact_over_seeds() -> None:
    stored = MODES[0].encode(WEIGHTS, MASKS)
    first = stored.read(seed=1)
    rms = np.sqrt((WEIGHTS["dense.weight"][MASKS["dense.weight"]].astype(float) ** 2).mean())
    ratio = first["dense.weight"] / np.float32(0.3 * rms)
    assert np.allclose(ratio, np.rint(ratio), atol=1e-4)
    assert np.abs(first["dense.weight"] - WEIGHTS["dense.weight"]).max() <= 0.1501 * rms
    for seed in range(2, 22):
        read = stored.read(seed, chip=seed)
        assert all(np.array_equal(read[name], first[name]) for name in first)


@pytest.mark.parametrize("level", nc.available_simd_levels())
def test_the_same_cells_and_weights_at_every_level(level: str) -> None:
    stored = MODES[0].encode(WEIGHTS, MASKS)
    read = stored.read(seed=3)
    before = nc.simd_level()
    try:
        nc.set_simd_level(level)
        again = MODES[0].encode(WEIGHTS, MASKS)
        assert np.array_equal(again.cells, stored.cells)
        for threads in (1, 2):
            found = stored.read(seed=3, num_threads=threads)
            assert all(np.array_equal(found[name], read[name]) for name in read)
    finally:
        nc.set_simd_level(before)


@modes
def test_cost_counts_every_cell(codec: Coded | Levels) -> None:
    stored = codec.encode(WEIGHTS, MASKS, digital={"steps": np.arange(3)})
    cost = stored.cost
    assert cost.data_cells == len(stored.cells) + len(stored.plain)
    assert cost.original_weights == sum(w.size for w in WEIGHTS.values())
    assert cost.stored_weights == cost.original_weights - int((~MASKS["dense.weight"]).sum())
    assert cost.total_cells == cost.data_cells + cost.index_bits
    assert cost.includes_biases and cost.digital_bits == 3 * 64
    assert "layout" in str(cost)


def test_finer_steps_cost_more() -> None:
    cells = [Coded(PCM, step=s).encode(WEIGHTS, MASKS).cost.data_cells for s in (0.1, 0.4, 1.0)]
    assert cells[0] > cells[1] > cells[2]


def test_steps_are_larger_where_feedback_leaves_less() -> None:
    """Of two tensors that count the same, by the root of what is left of errors."""
    rng = np.random.default_rng(8)
    weights = {name: rng.standard_normal((20, 50)).astype(np.float32) for name in "ab"}
    a = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 50))
    moments = {"a": a.T @ a / 200 + 0.1 * np.eye(50), "b": np.eye(50)}
    sensitivity = {name: np.ones((20, 50), np.float32) for name in "ab"}
    read = Coded(PCM, step=0.2).encode(weights, None, sensitivity, moments=moments).read(1)
    steps = [float(np.diff(np.unique(np.abs(read[name]))).min()) for name in "ab"]
    left = feedback.share_left(moments["a"])
    assert left < 0.3
    assert steps[0] / steps[1] == pytest.approx(left**-0.5, rel=1e-3)


def test_rate_of_a_large_tensor_is_its_entropy() -> None:
    """Within 2 %: everything that is in cells, over the entropy of the values."""
    weights = RNG.standard_normal((500, 600)).astype(np.float32)
    stored = Coded(PCM, step=0.5).encode({"w": weights})
    values = np.rint(weights / (0.5 * np.sqrt((weights.astype(float) ** 2).mean())))
    share = np.unique(values, return_counts=True)[1] / values.size
    entropy = -(share * np.log2(share)).sum() * values.size
    assert entropy < 8 * stored.layout.size < 1.02 * entropy
    bits = 8 * stored.layout.size / len(stored.cells)
    assert bits == pytest.approx(stored.codec.bits_per_cell, rel=0.01)


def test_levels_degrade_gracefully() -> None:
    """Errors of cells grow with the noise; what is behind the code holds up to its margin."""
    weights = {"w": RNG.standard_normal((200, 300)).astype(np.float32)}
    errors = []
    for noise in (0.5, 1.0, 1.15):
        true = nc.Channel(PCM.x, PCM.mean, noise * PCM.std)
        read = Levels(true, learnt=PCM, noise_margin=1.3).encode(weights).read(seed=1)
        errors.append(float(((read["w"] - weights["w"]) ** 2).mean()))
    assert errors[0] < errors[1] < errors[2] < 3 * errors[0]


def test_feedback_uses_moments() -> None:
    a = RNG.standard_normal((400, 100)) @ RNG.standard_normal((100, 100))
    moments = a.T @ a / 400
    errors = []
    for given in (None, {"w": moments}):
        read = Coded(PCM, step=0.5).encode({"w": DENSE}, moments=given).read(seed=1)
        e = read["w"].astype(np.float64) - DENSE
        errors.append(float(np.einsum("ri,ij,rj->", e, moments, e)))
    assert errors[1] < 0.5 * errors[0]


def test_sensitivities_share_the_error_out() -> None:
    """Steps are inversely proportional to the root of the sensitivity."""
    weights = {"a": DENSE, "b": DENSE}
    sensitivity = {"a": np.full(DENSE.shape, 9.0), "b": np.full(DENSE.shape, 1.0)}
    read = Coded(PCM, step=0.3).encode(weights, sensitivity=sensitivity).read(seed=1)
    errors = [float(((read[name] - DENSE) ** 2).mean()) for name in ("a", "b")]
    assert 7 < errors[1] / errors[0] < 11


def test_overrides() -> None:
    weights = {"a.weight": DENSE, "b.weight": DENSE}
    stored = Coded(PCM, step=0.5).encode(weights, overrides={"b.*": Coded(PCM, step=0.1)})
    read = stored.read(seed=1)
    errors = [float(((read[name] - DENSE) ** 2).mean()) for name in weights]
    assert 20 < errors[0] / errors[1] < 30
    with pytest.raises(TypeError, match="overrides: expected a Coded"):
        Coded(PCM).encode(weights, overrides={"b.*": Levels(PCM)})
    with pytest.raises(ValueError, match="overrides: expected patterns"):
        Coded(PCM).encode(weights, overrides={"c.*": Coded(PCM)})


@pytest.mark.parametrize("other", [{"levels": 2}, {"noise_margin": 1.5}, {"reads": 2}], ids=str)
def test_cells_and_code_of_an_override_are_those_of_the_codec(other: dict[str, Any]) -> None:
    """What an override says of them would not be done."""
    for codec in (Coded(PCM, **other), Coded(nc.Channel.gaussian(0.05)), Coded(PCM, learnt=PCM)):
        with pytest.raises(ValueError, match="overrides: expected cells as of this codec"):
            Coded(PCM).encode({"w": DENSE}, overrides={"w": codec})


def test_levels_of_other_digits_are_no_override() -> None:
    """Which digits a tensor has is not in its cells: it would be read wrong."""
    for other in (Levels(PCM, radices=(3, 4)), Levels(PCM, block=8)):
        with pytest.raises(ValueError, match="overrides: expected cells as of this codec"):
            Levels(PCM).encode({"w": DENSE}, overrides={"w": other})


def test_what_is_lost_is_an_error_and_never_weights() -> None:
    loud = nc.Channel(PCM.x, PCM.mean, 1.4 * PCM.std, name="loud")
    stored = Coded(loud, learnt=PCM, step=0.1).encode(WEIGHTS, MASKS)
    with pytest.raises(nc.DecodeError, match=r"'loud': block 0 of \d+ cannot be decoded"):
        stored.read(seed=1)


def test_a_chip_is_read_again_where_its_noise_is_known() -> None:
    """With little programming noise, the mean of a few reads of one chip decodes."""
    read_std = 1.3 * PCM.std
    loud = nc.Channel(PCM.x, PCM.mean, np.hypot(read_std, 0.02), read_std)
    stored = Coded(loud, learnt=PCM, step=0.1).encode(WEIGHTS, MASKS)
    again = stored.read(seed=1)
    once = Coded(loud, learnt=PCM, step=0.1, reads=1).encode(WEIGHTS, MASKS)
    with pytest.raises(nc.DecodeError, match="after 1 read "):
        once.read(seed=1)
    calm = Coded(PCM, step=0.1).encode(WEIGHTS, MASKS).read(seed=1)
    assert all(np.array_equal(again[name], calm[name]) for name in again)


# --------------------------------------------------------------------------- files


@modes
def test_files(codec: Coded | Levels, tmp_path: Path) -> None:
    stored = codec.encode(WEIGHTS, MASKS, digital={"steps": np.arange(3)})
    save(tmp_path / "a", stored)
    loaded = load(tmp_path / "a")
    assert isinstance(loaded, CodedModel) and loaded.cost == stored.cost
    assert loaded.codec.to_dict() == codec.to_dict() and loaded.tensors == stored.tensors
    found, expected = loaded.read(5, chip=2), stored.read(5, chip=2)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    save(tmp_path / "b", loaded)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_keep_dtypes_and_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    kept = {name: WEIGHTS[name] for name in ("dense.weight", "conv.weight", "dense.bias")}
    save_file(kept, tmp_path / "model", {"author": "x"})
    cost = encode_file(tmp_path / "model", tmp_path / "stored", Coded(PCM), mask="nonzero")
    assert cost.original_weights == DENSE.size + 288 and cost.digital_bits == 64 * 16
    with pytest.raises(ValueError, match="side_errors: expected False"):
        read_file(tmp_path / "stored", tmp_path / "read", seed=1, side_errors=True)
    assert not (tmp_path / "read").exists()
    read_file(tmp_path / "stored", tmp_path / "read", seed=1)
    read = load_file(tmp_path / "read")
    assert {name: array.dtype for name, array in read.items()} == {
        name: array.dtype for name, array in kept.items()
    }
    assert np.array_equal(read["dense.bias"], kept["dense.bias"])
    assert np.abs(read["conv.weight"] - kept["conv.weight"]).max() < 0.0126


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, Levels(PCM).encode({"w": DENSE}))
    raw = path.read_bytes()
    for at in np.linspace(0, len(raw) - 1, 60).astype(int):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        with pytest.raises((nc.DecodeError, nc.FormatError)):
            load(path)
        path.write_bytes(raw[:at])
        with pytest.raises((nc.DecodeError, nc.FormatError)):
            load(path)


# --------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "step"),
        ({"step": 1e-300}, "step"),
        ({"step": 1e300}, "step"),
        ({"step": {"w": -1.0}}, "step 'w'"),
        ({"levels": 5}, "levels"),
        ({"noise_margin": 0.9}, "noise_margin"),
        ({"failure": 0}, "failure"),
        ({"reads": 0}, "reads"),
    ],
    ids=str,
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: expected"):
        Coded(PCM, **options)


def test_arguments_are_checked() -> None:
    codec = Coded(PCM)
    with pytest.raises(TypeError, match="channel: expected a Channel"):
        Coded(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radices"):
        Levels(PCM, radices=())
    with pytest.raises(TypeError, match="weights: expected a mapping"):
        codec.encode(DENSE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'w': expected finite"):
        codec.encode({"w": np.array([[1.0, np.nan]])})
    for moments, message in (
        (np.eye(3), r"shape \(100, 100\) for 'w', got \(3, 3\)"),
        (np.full((100, 100), np.nan), "finite values for 'w'"),
        (np.triu(np.ones((100, 100))), "a symmetric matrix for 'w'"),
        (-np.eye(100), "a positive definite matrix once damped"),
    ):
        with pytest.raises(ValueError, match=f"moments: expected {message}"):
            codec.encode({"w": DENSE}, moments={"w": moments})
    with pytest.raises(ValueError, match="moments: expected names of weights"):
        codec.encode({"w": DENSE}, moments={"v": np.eye(3)})
    with pytest.raises(ValueError, match="digital: expected names"):
        codec.encode({"w": DENSE}, digital={"w": DENSE})
    with pytest.raises(ValueError, match="step: expected one"):
        Coded(PCM, step=2e-6).encode({"w": DENSE})


NAMED = Levels(PCM, radices={"dense.weight": (3, 4), "conv.weight": (2, 2, 2, 2), "empty": (4,),
                            "zero": (3,)}, block=16)  # fmt: skip


def test_digits_by_name(tmp_path: Path) -> None:
    stored = NAMED.encode(WEIGHTS, MASKS)
    plain = 2 * MASKS["dense.weight"].sum() + 4 * WEIGHTS["conv.weight"].size + 4
    assert len(stored.plain) == plain
    read = stored.read(seed=3)
    same = Levels(PCM, radices=(3, 4), block=16).encode(WEIGHTS, MASKS).read(seed=3)
    kept = MASKS["dense.weight"]
    errors = [np.square(r["dense.weight"] - WEIGHTS["dense.weight"])[kept] for r in (read, same)]
    assert 0.8 < errors[0].mean() / errors[1].mean() < 1.25
    save(tmp_path / "m.nc", stored)
    loaded = load(tmp_path / "m.nc")
    assert isinstance(loaded, CodedModel) and loaded.codec.to_dict() == NAMED.to_dict()
    again = loaded.read(seed=3)
    assert all(np.array_equal(again[name], read[name]) for name in WEIGHTS)


def test_digits_by_name_are_of_the_weights() -> None:
    with pytest.raises(ValueError, match="radices: expected some for 'conv"):
        Levels(PCM, radices={"dense.weight": (4,)}).encode(WEIGHTS)
    with pytest.raises(ValueError, match="radices: expected names of weights"):
        Levels(PCM, radices={"dense": (4,)}).encode(WEIGHTS)
    with pytest.raises(ValueError, match="radices 'a': expected at least one number"):
        Levels(PCM, radices={"a": ()})
    with pytest.raises(ValueError, match="radices: expected at most 256 levels of all digits"):
        many = {f"{a}{b}": (8, 8, a, b) for a in range(2, 8) for b in range(2, 8)}
        Levels(PCM, radices=many).plain_inputs  # noqa: B018


def other(noise: float = 1.0, shift: float = 0.0, stuck: float = 0.0) -> nc.Channel:
    """Cells other than learnt: of more noise, moved means in the middle, and stuck ones."""
    assert PCM.read_std is not None
    moved = PCM.mean + shift * np.cos(np.pi * (PCM.mean - 0.05) / 1.4)
    return nc.Channel(PCM.x, moved, noise * PCM.std, read_std=noise * PCM.read_std, stuck=stuck)


@pytest.mark.parametrize("levels", [4, 8])
def test_a_margin_survives_its_noise_in_100_of_100_reads(levels: int) -> None:
    learnt = {"learnt": PCM, "levels": levels, "noise_margin": 1.1}
    stored = Coded(other(noise=1.1), step=0.1, **learnt).encode({"w": DENSE})
    first = stored.read(0)["w"]
    assert all(np.array_equal(stored.read(seed, chip=seed)["w"], first) for seed in range(1, 100))


def test_single_reads_a_little_beyond_the_margin() -> None:
    """The decoder assumes the margin's noise: 17 of 120 single reads fail, 48 by the nominal."""
    codec = Coded(other(noise=1.12), PCM, step=0.1, levels=8, noise_margin=1.1, reads=1)
    stored, failed = codec.encode({"w": DENSE[:60]}), 0
    for seed in range(120):
        try:
            stored.read(seed, chip=seed)
        except nc.DecodeError:
            failed += 1
    assert failed <= 34


@pytest.mark.parametrize(
    "channel, more",
    [(other(noise=1.2), 1.6), (other(shift=0.05), 1.2), (other(stuck=1e-3), 1.4)],
    ids=["noise", "shift", "stuck"],
)
def test_other_cells_than_learnt(channel: nc.Channel, more: float) -> None:
    """The coded mode is nearly always right and else says so; the others lose more, gracefully.

    Of 300 reads of other weights 3 failed; errors were up to 1.48, 1.11 and 1.24 times as large.
    """
    weights = {"w": DENSE}
    coded = Coded(channel, learnt=PCM, step=0.1, noise_margin=1.1).encode(weights)
    right = Coded(PCM, step=0.1).encode(weights).read(0)["w"]
    failed = 0
    for seed in range(20):
        try:
            assert np.array_equal(coded.read(seed, chip=seed)["w"], right)
        except nc.DecodeError:
            failed += 1
    assert failed <= 4
    for nominal, there in (
        (Levels(PCM, radices=(3, 4)), Levels(channel, learnt=PCM, radices=(3, 4))),
        (nc.Codec(PCM), nc.Codec(channel, PCM)),
    ):
        errors = [
            float(np.square(codec.encode(weights).read(1)["w"] - DENSE).mean())
            for codec in (nominal, there)
        ]
        assert errors[1] < more * errors[0]


@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("pcm_joshi2020", {"levels": 4, "noise_margin": 1.1}),
        ("pcm_hermes", {"levels": 8, "noise_margin": 1.3}),
    ],
    ids=["joshi", "hermes"],
)
def test_cells_that_have_drifted_for_a_day(device: str, options: dict[str, Any]) -> None:
    """Learnt a second after programming, they are read in one read a day later.

    Of 1,040 other reads none failed.
    """
    fresh, aged = f"{device}@1", f"{device}@86400"
    failed = 0
    for rows in (4, 30):  # in 900 and 6,000 cells, about
        weights = {"w": DENSE[:rows]}
        stored = Coded(aged, fresh, step=0.25, reads=1, **options).encode(weights)
        right = Coded(fresh, step=0.25).encode(weights).read(0)["w"]
        for seed in range(20):
            try:
                assert np.array_equal(stored.read(seed, chip=seed)["w"], right)
            except nc.DecodeError:
                failed += 1
    assert failed <= 3


@pytest.mark.parametrize("device", ["pcm_joshi2020", "pcm_hermes"])
def test_plain_cells_are_read_by_what_decoded_ones_show(device: str) -> None:
    """As if the channel a day later were known; without, errors are 11 and 1.17 times as large."""
    weights = {"w": DENSE, "bias": DENSE[:, 0]}
    fresh, aged = nc.devices.cell(f"{device}@1"), nc.devices.cell(f"{device}@86400")

    def error(true: nc.Channel) -> float:
        stored = Levels(true, fresh, radices=(3, 4), noise_margin=1.3).encode(weights)
        reads = [stored.read(seed, chip=seed)["w"] for seed in range(10)]
        return float(np.mean([np.square(read - DENSE).mean() for read in reads]))

    assert error(aged) < 1.08 * error(fresh)


def test_sections() -> None:
    sections = [b"", b"a", bytes(127), bytes(128), bytes(70_000), b""]
    assert list(split(join(sections))) == sections
    for damaged in (b"\x05ab", b"\x80", join(sections)[:-100]):
        with pytest.raises(ValueError, match="sections: expected"):
            list(split(damaged))


@pytest.mark.parametrize("codec", [Coded(PCM), Levels(PCM)], ids=["coded", "levels"])
@pytest.mark.parametrize("scale", [1e-44, 1e-40, 1e-31, 1.5e38, 1e300])
def test_scales_that_float32_does_not_hold(codec: Coded | Levels, scale: float) -> None:
    weights = np.linspace(-1, 1, 60).reshape(6, 10) * scale
    with pytest.raises(ValueError, match=r"^weights 'w': expected "):
        codec.encode({"w": weights})


@pytest.mark.parametrize("codec", [Coded(PCM, step=0.05), Levels(PCM, radices=(8, 8))])
@pytest.mark.parametrize("scale", [1e-29, 1e-20, 1e20, 9e37])
def test_weights_of_every_scale(codec: Coded | Levels, scale: float) -> None:
    weights = (np.linspace(-1, 1, 600).reshape(6, 100) * scale).astype(np.float32)
    read = codec.encode({"w": weights}).read(seed=1)["w"]
    assert np.abs(read.astype(np.float64) - weights).mean() < 0.1 * scale


def test_a_block_longer_than_a_row_is_the_row() -> None:
    """And takes no more memory than one."""
    whole = Levels(PCM).encode({"w": DENSE}).read(seed=1)["w"]
    for block in (100, 101, 2**31 - 1):
        read = Levels(PCM, block=block).encode({"w": DENSE}).read(seed=1)["w"]
        np.testing.assert_array_equal(read, whole)
    with pytest.raises(ValueError, match="block: expected an int in"):
        Levels(PCM, block=2**63)
