"""Cells and devices by name, wherever an object is taken; what replaces methods is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_trees import any_tree

import noisycells as nc
from noisycells import devices
from noisycells.channel import Channel
from noisycells.devices import Device

PCM = devices.pcm_joshi2020()
CELL = Channel.gaussian(0.1, name="mine")
WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Of a cell and of a device."""
    cell, device = tmp_path / "cell@home.json", tmp_path / "device.json"
    cell.write_text(CELL.to_json())
    device.write_text(PCM.to_json())
    return cell, device


def test_cells_by_name(files: tuple[Path, Path]) -> None:
    assert devices.cell("pcm_array") is devices.pcm_array()
    assert devices.cell(CELL) is CELL
    for given in (files[0], str(files[0])):
        assert devices.cell(given) == CELL
    for given in (files[1], str(files[1]), "pcm_joshi2020", PCM):
        assert devices.cell(given) == PCM.channel()
    assert devices.cell("pcm_joshi2020@3600") == PCM.channel(3600)
    assert devices.cell("pcm_joshi2020@1e4") == PCM.channel(1e4)


def test_devices_by_name(files: tuple[Path, Path]) -> None:
    assert devices.computing(PCM) is PCM
    for given in ("pcm_joshi2020", files[1], str(files[1])):
        assert devices.computing(given) == PCM


def test_codecs_and_crossbars_take_names(files: tuple[Path, Path]) -> None:
    for name, cell in (
        ("pcm_array", devices.pcm_array()),
        ("pcm_joshi2020@3600", PCM.channel(3600)),
        (str(files[0]), CELL),
        (PCM, PCM.channel()),
    ):
        codec = nc.Codec(name, inverse=name)
        assert codec.channel == cell and codec.inverse == cell
        np.testing.assert_array_equal(
            codec.encode(WEIGHT).read(1), nc.Codec(cell, cell).encode(WEIGHT).read(1)
        )
        for mode in (nc.storage.Coded, nc.storage.Levels):
            made = mode(name, name)
            assert made.channel == cell and made.learnt == cell
    assert nc.storage.Analog("synthetic_pcm").channel == devices.synthetic_pcm()
    wanted = nc.Crossbar(WEIGHT, PCM).program(1).conductances
    for device in ("pcm_joshi2020", str(files[1]), files[1]):
        np.testing.assert_array_equal(nc.Crossbar(WEIGHT, device).program(1).conductances, wanted)


@pytest.mark.parametrize(
    ("error", "message", "given"),
    [
        (ValueError, "got 'pcm_aray'; did you mean 'pcm_array'?", "pcm_aray"),
        (ValueError, "got 'PCM_ARRAY'; did you mean 'pcm_array'?", "PCM_ARRAY"),
        (ValueError, "a device for a time, got 'pcm_array@10', a cell without", "pcm_array@10"),
        (ValueError, "expected NAME@SECONDS, got 'pcm_joshi2020@hour'", "pcm_joshi2020@hour"),
        (ValueError, "expected a file of a cell or a device, got ", "BROKEN"),
        (TypeError, "expected a Channel, a Device or the name of one, got 3", 3),
        (TypeError, "expected a Channel, a Device or the name of one, got None", None),
        (FileNotFoundError, "missing.json", "missing.json"),
    ],
)
def test_what_names_no_cell(
    error: type[Exception], message: str, given: Any, tmp_path: Path
) -> None:
    if given == "BROKEN":
        given = tmp_path / "broken.json"
        given.write_text('{"x": [0, 1]')
    takes: tuple[Any, ...] = (
        nc.Codec,
        nc.storage.Coded,
        nc.storage.Levels,
        nc.storage.Analog,
        lambda given: devices.cell(given, "channel"),
    )
    for ask in (lambda take=take: take(given) for take in takes):
        with pytest.raises(error, match=re.escape(message)) as found:
            ask()
        assert error is FileNotFoundError or str(found.value).startswith("channel: expected")


@pytest.mark.parametrize(
    ("error", "message", "given"),
    [
        (ValueError, "got 'pcm_joshi'; did you mean 'pcm_joshi2020'?", "pcm_joshi"),
        (TypeError, "expected a Device, got the channel 'pcm_array', which is", "pcm_array"),
        (TypeError, "expected a Device, got the channel 'mine', which is known only", CELL),
        (ValueError, "expected a device without a time, which at(seconds)", "pcm_joshi2020@3600"),
        (TypeError, "expected a Device or the name of one, got 3", 3),
    ],
)
def test_what_names_no_device(error: type[Exception], message: str, given: Any) -> None:
    for ask in (lambda: devices.computing(given), lambda: nc.Crossbar(WEIGHT, given)):
        with pytest.raises(error, match="^device: .*" + re.escape(message)):
            ask()


def test_a_cell_file_is_no_device(files: tuple[Path, Path]) -> None:
    with pytest.raises(TypeError, match="device: expected a Device, got the channel 'mine'"):
        nc.Crossbar(WEIGHT, str(files[0]))


# ----------------------------------------------------------------- subclasses


class Skewed(Channel):
    """A cell with noise of its own, which neither the core nor a file would know of."""

    def sample(self, *arguments: Any, **keywords: Any) -> Any:
        """Twice what a cell gives."""
        return 2 * super().sample(*arguments, **keywords)


class Shifted(Channel):
    """A cell whose noise is said to be less than what its tables have."""

    def std_at(self, x: Any) -> Any:
        """Half of it."""
        return super().std_at(x) / 2


class Named(Channel):
    """A cell that only adds to what there is, and makes and shows itself otherwise."""

    @classmethod
    def of_volts(cls) -> Named:
        """A way to make one."""
        return cls([-1, 1], [-1, 1], 0.1)

    def plot(self, x: Any = None, y: Any = None) -> Any:
        """Another picture."""

    def __repr__(self) -> str:
        return "Named"


class Leaky(Device):
    """A device that is programmed otherwise than its tables say."""

    def program(self, *arguments: Any, **keywords: Any) -> Any:
        """Half of it."""
        return super().program(*arguments, **keywords) / 2


@pytest.mark.parametrize(("kind", "method"), [(Skewed, "sample"), (Shifted, "std_at")])
def test_a_channel_that_the_core_would_bypass_is_refused(kind: type[Channel], method: str) -> None:
    channel = kind([-1, 1], [-1, 1], 0.1)
    with pytest.raises(
        TypeError, match=f"^channel: .* go past others, got a {kind.__name__} with its own {method}"
    ):
        nc.Codec(channel)
    for take in (nc.storage.Coded, nc.storage.Levels, nc.storage.Analog):
        with pytest.raises(TypeError, match=f"^channel: .* {kind.__name__} with its own {method}"):
            take(channel)  # type: ignore[operator]
    with pytest.raises(TypeError, match=f"^inverse: .* {kind.__name__} with its own {method}"):
        nc.Codec(CELL, channel)


def test_a_replaced_method_of_one_object_is_refused() -> None:
    channel = Channel.gaussian(0.1)
    assert channel.tables is not None  # kept in the object, and no method
    nc.Codec(channel)
    channel.sample = lambda *_, **__: 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TypeError, match="got a Channel with its own sample"):
        nc.Codec(channel)


def test_a_subclass_that_replaces_nothing_is_taken() -> None:
    named, plain = Named.of_volts(), Channel([-1, 1], [-1, 1], 0.1)
    np.testing.assert_array_equal(
        nc.Codec(named).encode(WEIGHT).read(1), nc.Codec(plain).encode(WEIGHT).read(1)
    )


def test_a_device_that_the_core_would_bypass_is_refused() -> None:
    leaky = object.__new__(Leaky)
    vars(leaky).update(vars(PCM))
    assert isinstance(leaky, Device) and leaky == PCM
    with pytest.raises(TypeError, match=r"^device: .*, got a Leaky with its own program"):
        nc.Crossbar(WEIGHT, leaky)


# ----------------------------------------------------------------- any text


@pytest.mark.parametrize(
    "made",
    [
        devices.fitted([0.0, 5.0, 9.0], [[0.0, 4.0, 9.0]] * 2, [[1.0] * 3] * 2, [1.0, 9.0]),
        nc.Channel([-1, 0, 1], [-1, 0.1, 1], 0.1, 0.02, branch=(-1, 1), write_bits=4, stuck=0.1),
    ],
    ids=["device", "cell"],
)
def test_any_json_is_a_cell_a_device_or_an_error_with_its_file(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "any.json"

    def check(tree: Any) -> None:
        path.write_text(json.dumps(tree))
        try:
            found = devices.find(path)
        except ValueError as error:
            assert str(path) in str(error)
            return
        cell = found if isinstance(found, Channel) else found.channel()
        assert np.isfinite(cell.sample([0.0, 1.0], 1)).all()

    any_tree(made.to_dict(), check)()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a":' * 100_000, "\x00", ""])
def test_text_that_is_no_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "any.json").write_text(text)
    with pytest.raises(ValueError, match=r"name: expected a file of a cell or a device, got .*any"):
        devices.find(tmp_path / "any.json")
    with pytest.raises(ValueError, match="text: expected a channel as JSON"):
        Channel.from_json(text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "any.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"name: expected a file of a cell or a device, got .*any"):
        devices.find(tmp_path / "any.json")
