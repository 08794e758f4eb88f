"""Parameters of a codec: what it keeps of them, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from codec_cases import heavy_tailed

from noisycells import devices
from noisycells.channel import Channel
from noisycells.storage import Codec, Redundancy, StoredTensor

NOISELESS = Channel.gaussian(0.0)
PCM = devices.get("synthetic_pcm")
STAND_IN = devices.get("gaussian_standin")
D2D = Channel(PCM.x, PCM.mean, PCM.std, d2d_std=0.05)


def test_redundancy_is_a_pair() -> None:
    assert Redundancy(2, 30) == (2, 30)
    assert (
        Codec(PCM, cells=Redundancy(large=30)).cells == Codec(PCM, cells=[1, 30]).cells == (1, 30)
    )
    assert Codec(PCM, cells=np.int64(4)).cells == (4, 4)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"sign_protection": False, "adaptive_mapping": False, "cells": 3, "collapse": False},
        {"thresholds": (0.01, 0.1), "cells": (1, 2, 30), "write_bits": (3, 4, 5)},
        {"ranges": 4, "mean_cells": 1.25, "scope": "model", "write_bits": "auto"},
        {"inverse": STAND_IN, "thresholds": 0.05, "write_bits": 2},
    ],
)
def test_dict_round_trip(chosen: dict[str, Any]) -> None:
    codec = Codec(D2D, **chosen)
    again = Codec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert again.to_dict() == codec.to_dict()
    assert again.channel == D2D and again.inverse == chosen.get("inverse")
    w = heavy_tailed(500)
    assert again.encode(w).read(5).tobytes() == codec.encode(w).read(5).tobytes()
    assert all(f"{key}=" in repr(codec) for key in chosen)


ADC = Channel(PCM.x, PCM.mean, PCM.std, read_bits=6)
DAC = Channel(PCM.x, PCM.mean, PCM.std, write_bits=4)


@pytest.mark.parametrize(
    ("error", "message", "chosen"),
    [
        (ValueError, "channel: expected a file that ends in .json, or one of", {"channel": "pcm"}),
        (TypeError, "channel: expected a Channel, a Device or the name", {"channel": PCM.mean}),
        (TypeError, "inverse: expected a Channel, a Device or the name", {"inverse": {}}),
        (TypeError, "sign_protection: expected True or False, got 1", {"sign_protection": 1}),
        (
            TypeError,
            "adaptive_mapping: expected True or False, got None",
            {"adaptive_mapping": None},
        ),
        (ValueError, "scope: expected one of 'tensor', 'model', got 'layer'", {"scope": "layer"}),
        (TypeError, "collapse: expected True or False, got 'no'", {"collapse": "no"}),
        (
            ValueError,
            "collapse: expected False or None for a channel",
            {"channel": ADC, "collapse": True},
        ),
        (ValueError, "thresholds: expected 'auto' or numbers, got 'best'", {"thresholds": "best"}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": 0.0}),
        (ValueError, "thresholds: expected a finite number", {"thresholds": math.nan}),
        (ValueError, "thresholds: expected a finite number", {"thresholds": math.inf}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": (0.2, 0.1)}),
        (ValueError, "thresholds: expected 1 to 7 positive finite", {"thresholds": ()}),
        (ValueError, "thresholds: expected 1 to 7", {"thresholds": range(1, 9)}),
        (
            ValueError,
            "thresholds: expected 'auto' without",
            {"thresholds": 1.0, "adaptive_mapping": False},
        ),
        (ValueError, "ranges: expected an int in [2, 8], got 1", {"ranges": 1}),
        (ValueError, "ranges: expected an int in [2, 8], got 9", {"ranges": 9}),
        (TypeError, "ranges: expected an int, got 2.5", {"ranges": 2.5}),
        (
            ValueError,
            "ranges: expected 2 for 1 thresholds, got 3",
            {"ranges": 3, "thresholds": 0.1},
        ),
        (ValueError, "cells: expected an int in [1, 65535], got 0", {"cells": 0}),
        (ValueError, "cells: expected an int in [1, 65535], got 65536", {"cells": (1, 65536)}),
        (TypeError, "cells: expected an int, got 1.5", {"cells": 1.5}),
        (TypeError, "cells: expected an int, got 'many'", {"cells": "many"}),
        (
            ValueError,
            "cells: expected one number, or one for each of 2 ranges, got 3",
            {"cells": (1, 2, 3)},
        ),
        (
            ValueError,
            "cells: expected one number, or one for each of 1",
            {"cells": (1, 2), "adaptive_mapping": False},
        ),
        (ValueError, "mean_cells: expected a number in [1, 65535], got 0.5", {"mean_cells": 0.5}),
        (
            ValueError,
            "mean_cells: expected a number in [1, 65535], got nan",
            {"mean_cells": math.nan},
        ),
        (
            ValueError,
            "mean_cells: expected cells not to be given as well",
            {"mean_cells": 2, "cells": 2},
        ),
        (ValueError, "write_bits: expected a number, 'auto' or None", {"write_bits": "few"}),
        (ValueError, "write_bits: expected an int in [1, 16], got 17", {"write_bits": 17}),
        (
            ValueError,
            "write_bits: expected an int in [1, 4], got 5",
            {"channel": DAC, "write_bits": 5},
        ),
        (ValueError, "write_bits: expected one number, or one for each", {"write_bits": (3, 4, 5)}),
    ],
)
def test_parameter_errors(error: type[Exception], message: str, chosen: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(**({"channel": PCM} | chosen))


W = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got int64",
            {"weights": np.ones(3, np.int64)},
        ),
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got complex128",
            {"weights": [1j]},
        ),
        (
            TypeError,
            "weights 'w': expected float16, float32 or float64, got bool",
            {"weights": [True]},
        ),
        (
            ValueError,
            "weights 'w': expected finite numbers, got NaN or infinity",
            {"weights": [1.0, math.nan]},
        ),
        (
            ValueError,
            "weights 'w': expected finite numbers, got NaN or infinity",
            {"weights": [1.0, -math.inf]},
        ),
        (
            ValueError,
            "weights 'w': expected magnitudes up to 1e+38, got 2e+38",
            {"weights": [-2e38]},
        ),
        (TypeError, "mask 'w': expected bool, got float64", {"mask": np.ones((2, 3))}),
        (
            ValueError,
            "mask 'w': expected the weights' shape (2, 3), got (3, 2)",
            {"mask": np.ones((3, 2), bool)},
        ),
        (ValueError, "mask 'w': expected an array or 'nonzero', got 'zero'", {"mask": "zero"}),
        (
            TypeError,
            "sensitivity 'w': expected numbers, got bool",
            {"sensitivity": np.ones((2, 3), bool)},
        ),
        (
            ValueError,
            "sensitivity 'w': expected one number or the weights' shape (2, 3), got (6,)",
            {"sensitivity": np.ones(6)},
        ),
        (ValueError, "sensitivity 'w': expected finite numbers of at least 0", {"sensitivity": -W}),
        (
            ValueError,
            "sensitivity 'w': expected finite numbers of at least 0",
            {"sensitivity": math.nan},
        ),
        (TypeError, "name: expected a string, got 3", {"name": 3}),
        (TypeError, "overrides, digital: expected a mapping of weights", {"digital": {}}),
        (TypeError, "overrides, digital: expected a mapping of weights", {"overrides": {}}),
    ],
)
def test_weight_errors(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(PCM).encode(**({"weights": W, "name": "w"} | arguments))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "name: expected none with a mapping", {"name": "w"}),
        (TypeError, "mask: expected a mapping of names", {"mask": np.ones((2, 3), bool)}),
        (TypeError, "sensitivity: expected a mapping of names", {"sensitivity": 1.0}),
        (ValueError, "mask: expected names of weights (a, b), got 'c'", {"mask": {"c": W > 0}}),
        (
            ValueError,
            "sensitivity: expected names of weights (a, b), got 'c'",
            {"sensitivity": {"c": 1.0}},
        ),
        (ValueError, "mask 'b': expected the weights' shape", {"mask": {"b": np.ones(5, bool)}}),
        (
            ValueError,
            "digital: expected names that are not in cells, got ['a']",
            {"digital": {"a": W}},
        ),
        (
            ValueError,
            "overrides: expected patterns that match a tensor (a, b), got 'c*'",
            {"overrides": {"c*": Codec(PCM)}},
        ),
        (
            ValueError,
            "for all tensors that share a mapping or for none, got one for 'a' and none for 'b'",
            {"sensitivity": {"a": 1.0}},
        ),
    ],
)
def test_model_errors(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Codec(PCM, scope="model").encode({"a": W, "b": 2 * W}, **arguments)


def test_pruned_weights_may_be_anything() -> None:
    w = np.array([math.nan, 1.0, math.inf, -2.0])
    out = Codec(NOISELESS).encode(w, np.isfinite(w)).read(0)
    np.testing.assert_allclose(out, [0, 1, 0, -2], rtol=1e-6)


def test_a_stored_tensor_says_what_it_is() -> None:
    stored = Codec(PCM).encode(np.eye(30), "nonzero", name="eye")
    assert isinstance(stored, StoredTensor)
    assert repr(stored) == (
        "StoredTensor('eye', (30, 30), 30 of 900 weights in 60 cells of 'synthetic_pcm')"
    )
    model = Codec(PCM).encode({"eye": np.eye(30)}, digital={"b": np.zeros(3)})
    assert repr(model) == (
        "StoredModel(1 tensors, 900 of 900 weights in 1,800 cells of 'synthetic_pcm', "
        "1 tensors digital)"
    )
