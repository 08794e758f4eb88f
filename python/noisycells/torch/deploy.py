"""From a trained model to a programmed chip in one call: :func:`deploy`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from .. import _arguments, devices
from .._text import labeled
from ..crossbar import CrossbarSpec
from ..crossbar.calibration import check_quantile
from ..devices import Device, DeviceLike
from .checks import Filter, check_module
from .crossbar.calibration import calibrate
from .crossbar.convert import at, convert, program, restore
from .crossbar.fold import NORMS, fold_batchnorm, found_pairs
from .crossbar.layers import CrossbarLayer
from .crossbar.limits import limit_weights
from .crossbar.report import summary
from .crossbar.selection import Specs, chosen_layers, crossbar_layers, specs_of
from .crossbar.smoothing import smooth
from .inputs import call, each_batch, inputs_of, moved, several_passes
from .modes import evaluating
from .training.fit import device_of

__all__ = ["deploy"]

SPEC = CrossbarSpec(adc_range="calibrated", drift_compensation="global")
"""What :func:`deploy` takes where it is not told; docs/real-networks.md has the measurements."""


def deploy(
    model: nn.Module,
    device: DeviceLike,
    calibration: Any,
    *,
    spec: Specs | None = None,
    filter_fn: Filter | None = None,
    strength: float = 0.5,
    limit: bool = True,
    quantile: float | str = 1.0,
    seed: int = 0,
    seconds: float | None = None,
    extrapolate: bool = False,
    quiet: bool = False,
) -> nn.Module:
    """Put a trained model on a programmed chip of noisy crossbars, in place.

    In this order: batch normalization is folded (:func:`fold_batchnorm`), layers become crossbar
    layers (:func:`convert`), their inputs are smoothed (:func:`smooth`) and their weights limited
    (:func:`limit_weights`), converters calibrated (:func:`calibrate`), the chip is programmed
    (:func:`program`) and, with ``seconds``, aged to that time, where drift compensation measures
    it (:func:`at`). What was chosen and what stays digital is printed. Layers that the data do not
    reach stay digital.

    Parameters
    ----------
    model : torch.nn.Module
        Put into ``eval()``.
    device : Device or str
        A device, the name of one, or a JSON file from ``noisycells fit``.
    calibration
        Example inputs, as for :func:`calibrate`; a few hundred vectors for each layer serve.
    spec : CrossbarSpec, mapping or callable, optional
        As for :func:`convert`. Default: 8-bit converters, tiles of 256, a scale for each output
        (``mapping="column"``), a full scale for each input vector, calibrated ADCs, global drift
        compensation.
    filter_fn : callable, optional
        As for :func:`convert`.
    strength : float
        Of :func:`smooth`; 0 does not smooth.
    limit : bool
        Limit weights for the least error of the device (:func:`limit_weights`).
    quantile : float or "error"
        Of :func:`calibrate`.
    seed : int in [0, 2**64)
        Of the chip.
    seconds : float, optional
        Since programming.
    extrapolate : bool
        Allow times beyond those at which the device was measured.
    quiet : bool
        Print nothing.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is not as said above or the data reach no layer: the model is then left as
        it was. What fails after folding leaves a digital model that computes the same in
        ``eval()``.
    """
    check_module(model, to_change=True)
    device = devices.computing(device)
    strength = _arguments.number("strength", strength, 0, 1)
    limit, quiet = _arguments.flag("limit", limit), _arguments.flag("quiet", quiet)
    extrapolate = _arguments.flag("extrapolate", extrapolate)
    quantile = check_quantile(quantile)
    seed = _arguments.seed("seed", seed)
    if seconds is not None:
        device.aging(seconds, extrapolate)  # checks both
    several_passes("calibration", calibration)
    reached, by_token = _reached(model, calibration, filter_fn)
    chosen = {c.name: c.layer for c in chosen_layers(model, filter_fn) if c.name in reached}
    specs = specs_of(SPEC if spec is None else spec, chosen)
    calibrated = _to_calibrate(specs, quantile)
    model.eval()
    folded = _fold(model, device, by_token)
    try:
        convert(model, device, lambda _, name: specs[name], lambda _, name: name in specs)
        if strength:
            smooth(model, calibration, strength)
        if limit:
            limit_weights(model, calibration)
        if calibrated:
            calibrate(model, calibration, quantile)
        program(model, seed)
        if seconds is not None:
            at(model, seconds, extrapolate)
    except BaseException:
        if crossbar_layers(model):
            restore(model)
        raise
    if not quiet:
        rows = {
            "device": _described(device),
            "circuit": "; ".join(dict.fromkeys(map(_circuit, specs.values()))),
            "folded": folded,
            "smoothed": _smoothed(model, strength),
            "limited": _limited(model),
            "calibrated": _calibrated(quantile) if calibrated else "nothing",
            "chip": f"seed {seed}, {_age(seconds, device, specs)}",
            "digital": _digital(model),
        }
        print("\n".join([*labeled(rows, 12), summary(model)]))
    return model


# --------------------------------------------------------------------------- what is to be done


def _to_calibrate(specs: Mapping[str, CrossbarSpec], quantile: float | str) -> bool:
    """Whether any range is calibrated."""
    calibrated = any("calibrated" in (s.dac_range, s.adc_range) for s in specs.values())
    if not calibrated and quantile != 1:
        raise _arguments.wrong_value("quantile", "1 where no range is 'calibrated'", repr(quantile))
    return calibrated


@torch.no_grad()
def _reached(model: nn.Module, batches: Any, filter_fn: Filter | None) -> tuple[set[str], set[str]]:
    """Names of the layers to convert that data reach, and of norms whose inputs have tokens.

    Of (batch, tokens, features), BatchNorm1d normalizes the tokens.
    """
    chosen = chosen_layers(model, filter_fn)
    if not chosen:
        raise _arguments.wrong_value("model", "at least one layer to convert", "none")
    reached: set[str] = set()
    by_token: set[str] = set()
    modules = dict(model.named_modules())

    def hook(name: str) -> Callable[..., None]:
        return lambda *_: reached.add(name)

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, inputs: by_token.add(name) if inputs[0].ndim == 3 else None

    with ExitStack() as stack:
        for c in chosen:
            seen = modules[c.name] if c.whole is None else c.whole
            stack.callback(seen.register_forward_pre_hook(hook(c.name)).remove)
        for name, module in modules.items():
            if isinstance(module, nn.BatchNorm1d):
                stack.callback(module.register_forward_pre_hook(look(name)).remove)
        stack.enter_context(evaluating(model))
        for batch in each_batch("calibration", batches):
            inputs = inputs_of("calibration", model, batch)
            call(model, moved(inputs, device_of(model)))
    if not reached:
        raise _arguments.wrong_value("calibration", "data that reach a layer to convert", "none")
    return reached, by_token


def _fold(model: nn.Module, device: Device, by_token: set[str]) -> str:
    """Fold what can be folded, and say what was."""
    modules = dict(model.named_modules())
    norms = [name for name, module in modules.items() if isinstance(module, NORMS)]
    if not norms:
        return "nothing, there is no batch normalization"
    try:
        pairs = [
            (layer, norm)
            for layer, norm in found_pairs(model)
            if not (norm in by_token and isinstance(modules[layer], nn.Linear))
        ]
        folded = {row["batchnorm"] for row in fold_batchnorm(model, device, pairs=pairs)}
    except ValueError as error:
        return f"nothing, {len(norms)} batch normalizations stay digital: {error}"
    left = [name for name in norms if name not in folded]
    text = f"{len(folded)} of {len(norms)} batch normalizations into the layers before them"
    return text + (f"; digital: {', '.join(left)}" if left else "")


# --------------------------------------------------------------------------- what was done


def _described(device: Device) -> str:
    low, high = device.conductance_range
    kind = "synthetic" if device.synthetic else "measured"
    return f"{device.name} ({kind}), {device.g_min:g} to {device.g_max:g} uS of {low:g} to {high:g}"


def _circuit(spec: CrossbarSpec) -> str:
    """The fields of a spec that decide results, in words."""

    def bits(name: str, count: int | None, reach: str | float) -> str:
        full = f"range by {reach}" if isinstance(reach, str) else f"range {reach:g}"
        return f"ideal {name}" if count is None else f"{count}-bit {name} ({full})"

    parts = [
        f"tiles of {spec.rows} x {spec.cols}",
        f"a scale for each {spec.mapping}" if spec.mapping != "tensor" else "one scale a layer",
        bits("DAC", spec.dac_bits, spec.dac_range),
        bits("ADC", spec.adc_bits, spec.adc_range),
        f"read noise {spec.read_noise}",
        f"drift compensation {spec.drift_compensation}",
        f"wires of {spec.wire_resistance_ohm:g} ohm a cell",
    ]
    if spec.devices_per_polarity > 1:
        parts.append(f"{spec.devices_per_polarity} devices a polarity")
    return ", ".join(parts)


def _smoothed(model: nn.Module, strength: float) -> str:
    if not strength:
        return "nothing"
    factors = [layer.smoothing for layer in crossbar_layers(model).values()]
    known = [f for f in factors if f is not None]
    low, high = min(f.min().item() for f in known), max(f.max().item() for f in known)
    return f"inputs of {len(known)} layers, by {low:g} to {high:g} (strength {strength:g})"


def _limited(model: nn.Module) -> str:
    layers = crossbar_layers(model).values()
    beyond = sum(layer.limited() for layer in layers)
    weights = sum(layer.weight.numel() for layer in layers)
    return f"{beyond:,} of {weights:,} weights, {100 * beyond / weights:.2f} %"


def _calibrated(quantile: float | str) -> str:
    if quantile == "error":
        return "for the least square error of the products"
    return f"to cover {100 * float(quantile):g} % of the magnitudes"


def _age(seconds: float | None, device: Device, specs: dict[str, CrossbarSpec]) -> str:
    if seconds is None:
        return "just programmed; drift is compensated from at() on"
    compensated = {spec.drift_compensation for spec in specs.values()}
    beyond = "" if device.measured(seconds) else " (extrapolated)"
    return f"{seconds:g} s old{beyond}, drift compensation {', '.join(sorted(compensated))}"


def _digital(model: nn.Module) -> str:
    """Parameters that are on no array, by the modules that have them."""
    analog = {id(layer.weight) for layer in crossbar_layers(model).values()}
    found: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in analog:
                kind = "biases" if isinstance(module, CrossbarLayer) else type(module).__name__
                found[kind] += 1
                weights[kind] += parameter.numel()
    parts = [f"{kind} ({weights[kind]:,} numbers)" for kind in found]
    return "; ".join([*parts, "activations, attention and sums of tiles"])
