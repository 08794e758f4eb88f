"""Arguments that the core refuses: devices, arrays, products, convolutions and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_cases import F, frozen
from device_cases import (
    AGING,
    PROGRAMMING,
    aging,
    bound_aging,
    bound_programming,
)
from numpy.typing import NDArray

from noisycells import _core

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


PLAIN = bound_programming(PROGRAMMING["plain"])

OLD = bound_aging(AGING["old"])


def good_program(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "sign": 1, "g_min": 0.0, "span": 1.0,
        "out": F((3, 4)), "device": PLAIN, "seed": 1, "stream": 2, "cell": 3, **changed,
    }  # fmt: skip
    _core.program(**arguments)


def good_pair(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "g_min": 0.0, "span": 1.0, "positive": F((3, 4)),
        "negative": F((3, 4)), "device": PLAIN, "seed": 1, "stream": 2, "cell": 3, **changed,
    }  # fmt: skip
    _core.program_pair(**arguments)


def good_age(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "sign": 1, "g_min": 0.0, "span": 1.0,
        "programmed": F((3, 4)), "out": F((3, 4)), "device": OLD, "seed": 1, "stream": 2,
        "cell": 3, **changed,
    }  # fmt: skip
    _core.age(**arguments)


def good_array(**changed: Any) -> _core.CrossbarArray:
    arguments = {
        "n": 3, "k": 4, "rows": 2, "planes": 2, "integer": True, "int8": False, "variance": False,
        **changed,
    }  # fmt: skip
    return _core.CrossbarArray(**arguments)


def good_pack(variance: bool = False, **changed: Any) -> None:
    arguments = {
        "plane": 1, "positive": F((3, 4)), "negative": None, "inverse_span": 1.0,
        "variance": F((3, 4)) if variance else None, **changed,
    }  # fmt: skip
    good_array(variance=variance).pack(**arguments)


SETTINGS = {
    "dac_levels": 127, "slice_bits": 4, "adc_levels": 7, "steps": F(8) + 1, "plane_factors": F(2),
    "output_noise": 0.1, "weight_noise": False, "fixed_range": None, "scale": F(3),
    "row_scale": F(4),
}  # fmt: skip
CONVOLUTION = {
    "kernel": (1, 1, 2), "stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1),
}  # fmt: skip


def changed_of(good: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """The good arguments, with those of them that are changed."""
    return {name: changed.pop(name, value) for name, value in good.items()}


def good_settings(**changed: Any) -> _core.ProductSettings:
    return _core.ProductSettings(**{**SETTINGS, **changed})


def good_convolution(**changed: Any) -> _core.Convolution:
    return _core.Convolution(**{**CONVOLUTION, **changed})


def packed_array(**changed: Any) -> _core.CrossbarArray:
    array = good_array(**changed)
    for plane in range(changed.get("planes", 2)):
        g = F((changed.get("n", 3), changed.get("k", 4)))
        array.pack(plane, g, None, 1.0, g if changed.get("variance") else None)
    return array


def good_product(array: _core.CrossbarArray | None = None, **changed: Any) -> None:
    """``changed``: arguments of the product and of its settings."""
    settings = good_settings(**changed_of(SETTINGS, changed))
    arguments = {
        "x": F((5, 4)), "y": F((5, 3)), "seed": 1, "stream": 2, "bias": F(3),
        "inside": np.zeros((8, 5, 1), np.uint8), **changed,
    }  # fmt: skip
    (array or packed_array()).product(settings=settings, **arguments)


def good_convolve(**changed: Any) -> None:
    """5 patches of 2 channels of 1 x 1 x 2."""
    convolution = good_convolution(**changed_of(CONVOLUTION, changed))
    images = {"x": F((1, 2, 1, 1, 6)), "y": F((1, 1, 1, 5, 3))}
    good_product(convolution=convolution, **{**images, **changed})


def good_gradient(**changed: Any) -> None:
    arguments = {
        "x": F((1, 2, 1, 1, 6)), "grad": F((5, 3)), "total": F((3, 4)),
        "convolution": good_convolution(**changed_of(CONVOLUTION, changed)), "rows": 3,
        "dac_levels": 127, "shift": 0, "digit": 0, "fixed_range": None, "row_scale": None,
        "inside": None, **changed,
    }  # fmt: skip
    _core.weight_gradient(**arguments)


def with_step(value: float) -> F32:
    all_steps = F(8) + 1
    all_steps[7] = value
    return all_steps


VALUE_ERRORS: list[tuple[str, Callable[[], Any]]] = [
    # devices
    *[
        (r"table: expected shape \(n >= 2, 4\)", lambda s=s: _core.Programming(F(s), 0, 1, 0, 1))
        for s in ((1, 4), (2, 3), 8)
    ],
    *[
        (
            rf"{name}: expected shape \(n >= 2, {columns}\)",
            lambda name=name, s=shape: bound_aging(aging(name, **{name: F(s)})),
        )
        for name, columns in (("relaxation", 4), ("drift", 4), ("flicker", 2))
        for shape in ((1, columns), (5, 3), 8)
    ],
    ("low: expected at most high", lambda: _core.Programming(F((2, 4)), 0, 1, 2.0, 1.0)),
    ("low: expected at most high", lambda: _core.Programming(F((2, 4)), 0, 1, np.nan, 1.0)),
    ("low: expected at most high", lambda: bound_aging(aging("drift", low=2.0, high=1.0))),
    *[
        error
        for call in (good_program, good_age)
        for error in (
            ("weights: expected 2 dimensions", lambda c=call: c(weights=F(12))),
            (r"out: expected shape \(3, 4\)", lambda c=call: c(out=F((4, 3)))),
            (r"out: expected shape \(3, 4\)", lambda c=call: c(out=F(12))),
            ("inverse: expected 1 or 3 elements, got 2", lambda c=call: c(inverse=F(2))),
            ("inverse: expected 1 dimension, got 2", lambda c=call: c(inverse=F((3, 1)))),
            ("cell: expected 0 to 65535, got -1", lambda c=call: c(cell=-1)),
            ("cell: expected 0 to 65535, got 65536", lambda c=call: c(cell=65536)),
            ("array is not writeable", lambda c=call: c(out=frozen(3, 4))),
        )
    ],
    ("weights: expected 2 dimensions", lambda: good_pair(weights=F(12))),
    (r"positive: expected shape \(3, 4\)", lambda: good_pair(positive=F((4, 3)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pair(negative=F(12))),
    ("inverse: expected 1 or 3 elements, got 2", lambda: good_pair(inverse=F(2))),
    ("cell: expected 0 to 65535, got -1", lambda: good_pair(cell=-1)),
    ("cell: expected 0 to 65535, got 65536", lambda: good_pair(cell=65535)),
    ("array is not writeable", lambda: good_pair(positive=frozen(3, 4))),
    ("array is not writeable", lambda: good_pair(negative=frozen(3, 4))),
    (r"programmed: expected shape \(3, 4\)", lambda: good_age(programmed=F((3, 5)))),
    (r"programmed: expected shape \(3, 4\)", lambda: good_age(programmed=F(12))),
    # arrays
    ("n, k: expected >= 1", lambda: good_array(n=0)),
    ("n, k: expected >= 1", lambda: good_array(k=0)),
    ("n, k: expected >= 1", lambda: good_array(k=-1)),
    ("rows: expected >= 1, got 0", lambda: good_array(rows=0)),
    ("rows: the integer kernel takes at most 512, got 513", lambda: good_array(rows=513)),
    ("planes: expected >= 1, got 0", lambda: good_array(planes=0)),
    ("plane: expected less than planes", lambda: good_pack(plane=2)),
    ("plane: expected less than planes", lambda: good_pack(plane=-1)),
    ("positive, negative: expected one or both", lambda: good_pack(positive=None)),
    (r"positive: expected shape \(3, 4\)", lambda: good_pack(positive=F((4, 3)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pack(negative=F((3, 5)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pack(negative=F(12))),
    ("variance: expected as the array was made", lambda: good_pack(variance=False) or
        good_array().pack(0, F((3, 4)), None, 1.0, F((3, 4)))),
    ("variance: expected as the array was made", lambda:
        good_array(variance=True).pack(0, F((3, 4)), None, 1.0, None)),
    (r"variance: expected shape \(3, 4\)", lambda:
        good_array(variance=True).pack(0, F((3, 4)), None, 1.0, F((3, 5)))),
    # products
    ("row_scale: expected finite values", lambda:
        good_product(row_scale=np.full(4, np.nan, np.float32))),
    ("steps: expected finite numbers > 0 with finite inverses", lambda:
        good_product(steps=np.full(8, 1e-40, np.float32))),
    (r"x: expected shape \(batch, 4\)", lambda: good_product(x=F((5, 5)))),
    (r"x: expected shape \(batch, 4\)", lambda: good_product(x=F(4))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F((4, 3)))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F((5, 4)))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F(15))),
    ("dac_levels: expected 0 to 127, got 128", lambda: good_product(dac_levels=128)),
    ("dac_levels: expected 0 to 32767, got -1", lambda: good_product(dac_levels=-1)),
    ("dac_levels: expected 0 to 32767, got 32768", lambda:
        good_product(packed_array(integer=False), dac_levels=32768)),
    ("dac_levels: the integer kernel needs a DAC", lambda:
        good_product(dac_levels=0, slice_bits=0)),
    ("slice_bits: expected 0 to 15, with a DAC, got -1", lambda: good_product(slice_bits=-1)),
    ("slice_bits: expected 0 to 15, with a DAC, got 16", lambda: good_product(slice_bits=16)),
    ("slice_bits: expected 0 to 15, with a DAC, got 4", lambda:
        good_product(packed_array(integer=False), dac_levels=0)),
    ("adc_levels: expected 0 to 32767, got -1", lambda: good_product(adc_levels=-1)),
    ("adc_levels: expected 0 to 32767, got 32768", lambda: good_product(adc_levels=32768)),
    ("steps: expected 8 elements, got 7", lambda: good_product(steps=F(7) + 1)),
    ("steps: expected 8 elements, got 7", lambda: good_product(steps=F(7), adc_levels=0)),
    ("steps: expected 1 dimension, got 2", lambda: good_product(steps=F((8, 1)))),
    *[
        ("steps: expected finite numbers > 0", lambda v=v: good_product(steps=with_step(v)))
        for v in (0.0, -1.0, np.nan, np.inf)
    ],
    ("plane_factors: expected 2 elements, got 1", lambda: good_product(plane_factors=F(1))),
    *[
        ("output_noise: expected a finite number >= 0", lambda v=v: good_product(output_noise=v))
        for v in (-0.1, np.nan, np.inf)
    ],
    ("weight_noise: the array was packed without variances", lambda:
        good_product(weight_noise=True)),
    *[
        ("fixed_range: expected a finite number > 0, or None", lambda v=v:
            good_product(fixed_range=v))
        for v in (0.0, -1.0, np.nan, np.inf)
    ],
    ("scale: expected 3 elements, got 4", lambda: good_product(scale=F(4))),
    ("bias: expected 3 elements, got 1", lambda: good_product(bias=F(1))),
    ("row_scale: expected 4 elements, got 3", lambda: good_product(row_scale=F(3))),
    *[
        (r"inside: expected shape \(8, 5, 1\)", lambda s=s:
            good_product(inside=np.zeros(s, np.uint8)))
        for s in ((7, 5, 1), (8, 4, 1), (8, 5, 2), (8, 5), 40)
    ],
    ("array is not writeable", lambda: good_product(y=frozen(5, 3))),
    ("array is not writeable", lambda: good_product(inside=frozen(8, 5, 1, dtype=np.uint8))),
    ("passes: expected at most 65535, got 65536", lambda:
        good_product(_core.CrossbarArray(3, 8192, 1, 8, True, False, False), slice_bits=0,
                     x=F((5, 8192)))),
    # convolutions
    ("x: expected 5 dimensions", lambda: good_convolve(x=F((1, 2, 1, 6)))),
    ("y: expected 5 dimensions", lambda: good_convolve(y=F((5, 3)))),
    *[
        ("kernel, stride, padding, dilation: expected positive sizes",
         lambda name=name, v=v: good_convolve(**{name: v}))
        for name, v in (("kernel", (1, 0, 2)), ("stride", (1, 1, 0)), ("dilation", (0, 1, 1)),
                        ("padding", (0, 0, -1)), ("stride", (-1, 1, 1)))
    ],
    ("kernel: expected to fit into the padded input", lambda:
        good_convolve(x=F((1, 2, 1, 1, 1)))),
    ("kernel: expected to fit into the padded input", lambda:
        good_convolve(dilation=(1, 1, 6))),
    ("y: expected the size of the output", lambda: good_convolve(y=F((1, 1, 1, 6, 3)))),
    ("y: expected the size of the output", lambda: good_convolve(padding=(0, 0, 1))),
    (r"x: expected channels x kernel = 4 inputs a patch, got 6", lambda:
        good_convolve(x=F((1, 3, 1, 1, 6)))),
    (r"y: expected shape \(batch, depth, height, width, out\)", lambda:
        good_convolve(y=F((2, 1, 1, 5, 3)))),
    (r"y: expected shape \(batch, depth, height, width, out\)", lambda:
        good_convolve(y=F((1, 1, 1, 5, 4)))),
    (r"inside: expected shape \(8, 5, 1\)", lambda:
        good_convolve(inside=np.zeros((8, 1, 1), np.uint8))),
    ("dac_levels: expected 0 to 127, got 128", lambda: good_convolve(dac_levels=128)),
    ("array is not writeable", lambda: good_convolve(y=frozen(1, 1, 1, 5, 3))),
    # gradients
    ("x: expected 5 dimensions", lambda: good_gradient(x=F((2, 6)))),
    (r"x: expected channels x kernel = 4 inputs a patch, got 6", lambda:
        good_gradient(kernel=(1, 1, 3))),
    ("kernel: expected to fit", lambda: good_gradient(x=F((1, 2, 1, 1, 1)))),
    (r"grad: expected shape \(5, 3\)", lambda: good_gradient(grad=F((4, 3)))),
    (r"total: expected shape \(out, inputs\)", lambda: good_gradient(total=F(4))),
    ("rows: expected >= 1, got 0", lambda: good_gradient(rows=0)),
    ("dac_levels: expected 1 ", lambda: good_gradient(dac_levels=0)),
    ("shift: expected 0 ", lambda: good_gradient(shift=16)),
    ("digit: expected >= 0", lambda: good_gradient(digit=-1)),
    ("fixed_range: expected a finite", lambda: good_gradient(fixed_range=0.0)),
    ("row_scale: expected 4 elements, got 3", lambda: good_gradient(row_scale=F(3))),
    (r"inside: expected shape \(2, 5, 1\)", lambda:
        good_gradient(inside=np.zeros((1, 5, 1), np.uint8))),
    ("array is not writeable", lambda: good_gradient(total=frozen(3, 4))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "call"),
    VALUE_ERRORS,
    ids=[f"{i} {m[:40]}" for i, (m, _) in enumerate(VALUE_ERRORS)],
)
def test_value_errors(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_the_good_calls_are_good() -> None:
    for call in (
        good_program,
        good_pair,
        good_age,
        good_array,
        good_pack,
        good_settings,
        good_product,
        good_convolution,
        good_convolve,
        good_gradient,
    ):
        call()
    good_pack(variance=True)
    good_product(packed_array(integer=False), dac_levels=32767, slice_bits=15, steps=F(4) + 1,
                 inside=None)  # fmt: skip


DOUBLES = np.zeros((3, 4))

COLUMNS_FIRST = np.asfortranarray(F((3, 4)))

TYPE_ERRORS: list[Callable[[], Any]] = [
    *[
        lambda call=call, name=name, value=value: call(**{name: value})
        for call, names in (
            (good_program, ("weights", "out")),
            (good_pair, ("weights", "positive", "negative")),
            (good_age, ("weights", "programmed", "out")),
            (good_pack, ("positive", "negative")),
        )
        for name in names
        for value in (DOUBLES, COLUMNS_FIRST, F((3, 8))[:, ::2], [[0.0] * 4] * 3)
    ],
    *[
        lambda call=call, name=name, value=value: call(**{name: value})
        for call in (good_product, good_convolve)
        for name in ("steps", "plane_factors", "scale", "bias", "row_scale")
        for value in (np.zeros(4), F(16)[::4])
    ],
    lambda: good_program(inverse=np.zeros(3)),
    lambda: good_program(device=OLD),
    lambda: good_program(seed=-1),
    lambda: good_product(seed=-1),
    lambda: good_program(stream=2**64),
    lambda: good_age(device=PLAIN),
    lambda: good_age(inverse=F(6)[::2]),
    lambda: good_product(x=np.zeros((5, 4))),
    lambda: good_product(x=F((4, 5)).T),
    lambda: good_product(y=np.zeros((5, 3))),
    lambda: good_product(y=F((3, 5)).T),
    lambda: good_product(x=[[0.0] * 4] * 5),
    lambda: good_product(inside=np.zeros((8, 5, 1), bool)),
    lambda: good_product(inside=np.zeros((8, 5, 2), np.uint8)[:, :, ::2]),
    lambda: good_product(scale=None),
    lambda: good_convolve(x=np.zeros((1, 2, 1, 1, 6))),
    lambda: good_convolve(y=np.zeros((1, 1, 1, 5, 3))),
    lambda: good_convolve(kernel=(1, 2)),
    lambda: good_convolve(stride=1),
    lambda: _core.Programming(np.zeros((2, 4)), 0, 1, 0, 1),
    lambda: _core.Programming(np.asfortranarray(F((3, 4))), 0, 1, 0, 1),
    lambda: _core.Programming(F((2, 4)), 0, 1, 0, 1, (-1, 0)),
    lambda: _core.Aging(np.zeros((2, 4)), None, None, 0, 1, 0, 1),
    lambda: _core.Aging(None, np.zeros((2, 4)), None, 0, 1, 0, 1),
    lambda: _core.Aging(None, None, np.zeros((2, 2)), 0, 1, 0, 1),
]


@pytest.mark.parametrize("call", TYPE_ERRORS, ids=range(len(TYPE_ERRORS)))
def test_type_errors(call: Callable[[], Any]) -> None:
    """Nothing is converted or copied silently."""
    with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
        call()


def test_planes_that_were_never_packed() -> None:
    """They hold nothing that could be multiplied."""
    array, y = _core.CrossbarArray(3, 4, 4, 2, True, False, False), F((1, 3))
    settings = good_settings(slice_bits=0, adc_levels=0, steps=F(2))
    for plane in (0, 1):
        with pytest.raises(ValueError, match=r"^product: expected every plane to be packed"):
            array.product(F((1, 4)), y, settings, 1, 2)
        array.pack(plane, F((3, 4)), None, 1.0, None)
    array.product(F((1, 4)), y, settings, 1, 2)


@pytest.mark.parametrize("stuck", [(2**63, 2**63), (2**64 - 1, 1), (2**40, 0)])
def test_stuck_for_certain(stuck: tuple[int, int]) -> None:
    """Probabilities saturate: all but one word in 2^32 are below, and none above is off."""
    device = _core.Programming(F((2, 4)), 0, 1, 0, 10, stuck, (2.0, 3.0))
    out = F((1, 1000))
    _core.program(F((1, 1000)), np.ones(1, np.float32), 1, 0, 1, out, device, 1, 2, 3)
    assert (out == 2).all()


def test_nothing_is_written_on_error() -> None:
    y, image = F((5, 3)) + 7, F((1, 1, 1, 5, 3)) + 7
    inside = np.full((8, 5, 1), 7, np.uint8)
    for changed in ({"dac_levels": 128}, {"steps": F(7)}, {"bias": F(4)}, {"adc_levels": -1}):
        with pytest.raises(ValueError):
            good_product(y=y, inside=inside, **changed)
        with pytest.raises(ValueError):
            good_convolve(y=image, inside=inside, **changed)
    bad = F((5, 4))
    bad[4, 3] = np.nan
    with pytest.raises(ValueError):
        good_product(x=bad, y=y, inside=inside)
    assert (y == 7).all() and (image == 7).all() and (inside == 7).all()
    out = F((3, 4)) + 7
    for call in (good_program, good_age):
        with pytest.raises(ValueError):
            call(out=out, cell=-1)
    assert (out == 7).all()
