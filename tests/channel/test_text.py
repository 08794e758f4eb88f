"""Channels as text and as figures."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from channel_cases import MEAN, make

import noisycells as nc
from noisycells.channel import Channel
from noisycells.channel.fitting import Goodness


def fancy() -> Channel:
    return Channel(
        [0.1, 0.2, 0.30000000000000004],
        [1 / 3, 2 / 3, math.pi],
        [0.1, 0.2, 0.3],
        [0.05, 1e-300, 0.0],
        branch=(0.1, 0.25),
        write_bits=4,
        read_bits=12,
        d2d_std=0.1,
        stuck=(1e-3, 0.2),
        name="näme",
        source="here",
        license="MIT",
        synthetic=True,
    )


def test_json_round_trip_is_exact() -> None:
    for channel in (make(), fancy(), Channel.gaussian(0.1)):
        text = channel.to_json()
        back = Channel.from_json(text)
        assert back == channel and hash(back) == hash(channel)
        assert back.to_json() == text
        for field in ("x", "mean", "std"):
            assert getattr(back, field).tobytes() == getattr(channel, field).tobytes()
        assert pickle.loads(pickle.dumps(channel)) == channel
        x = np.linspace(*channel.branch, 99)
        np.testing.assert_array_equal(back.sample(x, 3, 2), channel.sample(x, 3, 2))
    fitted = make()
    fitted.goodness = Goodness(100, 10, 0.01, 0.1, 0.0, 1.0, 0.68, 0.95, 0.0, 0.0, 0.5)
    assert Channel.from_json(fitted.to_json()).goodness == fitted.goodness
    assert fitted != make()
    assert make() != "channel"


def test_bad_text_forms_are_named() -> None:
    good = make().to_dict()
    with pytest.raises(ValueError, match="text: expected a channel as JSON, got Expecting value"):
        Channel.from_json("nonsense")
    with pytest.raises(ValueError, match="text: expected a JSON object, got list"):
        Channel.from_json("[]")
    with pytest.raises(TypeError, match="data: expected the dict of a channel, got 'x'"):
        Channel.from_dict("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keys of a channel, got without 'std', with 'sdt'"):
        Channel.from_dict({"x": [0, 1], "mean": [0, 1], "sdt": 0.1})
    with pytest.raises(ValueError, match="goodness: expected that of a fitted channel"):
        Channel.from_dict({**good, "goodness": {"samples": 3}})
    with pytest.raises(ValueError, match="std: expected values >= 0"):
        Channel.from_json(json.dumps({**good, "std": -1}))
    with pytest.raises(ValueError, match="mean: expected finite values"):
        Channel.from_json(make().to_json().replace("-0.66", "NaN"))


def test_repr_names_what_matters() -> None:
    assert repr(make()) == "<Channel channel: 9 knots, range [-0.7, 0.7]>"
    text = repr(fancy())
    for part in ("näme", "write_bits=4", "read_bits=12", "d2d_std=0.1", "stuck=", "synthetic"):
        assert part in text


def test_plot() -> None:
    figure_module = pytest.importorskip("matplotlib.figure", reason="matplotlib not installed")
    figure = make(name="a cell").plot()
    assert isinstance(figure, figure_module.Figure)
    axes = figure.axes[0]
    assert axes.get_title() == "a cell"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), MEAN)
    with_points = make().plot([0, 1], [0.1, 0.7])
    assert len(with_points.axes[0].lines) == len(axes.lines) + 1
    with pytest.raises(ValueError, match="x, y: expected both or neither"):
        make().plot(x=[1, 2])


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'noisycells\[plot\]'"):
        make().plot()


def test_is_exported() -> None:
    assert nc.Channel is Channel
