"""Which layers of a model compute on crossbars, and which stay digital."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from ... import _arguments
from ...crossbar import CrossbarSpec
from ..checks import Filter, check_filter
from . import parts as linear_parts
from .adapter import LowRankAdapter
from .convolution import CrossbarConv1d, CrossbarConv2d, CrossbarConv3d
from .layers import CrossbarLayer
from .linear import CrossbarLinear, CrossbarTransposedLinear

__all__ = [
    "Candidate",
    "Digital",
    "Specs",
    "chosen_layers",
    "crossbar_class",
    "crossbar_layers",
    "digital_layers",
    "required",
    "specs_of",
]

Specs = CrossbarSpec | Mapping[str, CrossbarSpec] | Callable[[nn.Module, str], CrossbarSpec]

_CLASSES: dict[type[nn.Module], type[CrossbarLayer]] = {
    nn.Linear: CrossbarLinear,
    nn.Conv1d: CrossbarConv1d,
    nn.Conv2d: CrossbarConv2d,
    nn.Conv3d: CrossbarConv3d,
}
_MULTIPLYING = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.Bilinear,
    nn.RNNCellBase,
    nn.RNNBase,
    nn.MultiheadAttention,
    LowRankAdapter,
)


class Candidate(NamedTuple):
    """A layer that can be converted; ``whole``: the module that it is a part of and gets."""

    name: str
    layer: nn.Module
    whole: nn.Module | None


class Digital(NamedTuple):
    """A module that multiplies with its weights and has no crossbars.

    ``weights``: how many, 0 where a lazy module has none yet; ``wanted``: only because there is no
    crossbar layer for its class.
    """

    name: str
    module: nn.Module
    weights: int
    wanted: bool


def crossbar_class(module: nn.Module) -> type[CrossbarLayer] | None:
    """The class that ``module`` becomes, if there is one."""
    kind = type(module)
    if kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers."):
        return CrossbarTransposedLinear
    return _CLASSES.get(kind)


def crossbar_layers(model: nn.Module) -> dict[str, CrossbarLayer]:
    """By name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CrossbarLayer)}


def required(model: nn.Module) -> dict[str, CrossbarLayer]:
    """The crossbar layers of a model that must have some."""
    layers = crossbar_layers(model)
    if not layers:
        raise _arguments.wrong_value("model", "crossbar layers", "none; use convert first")
    return layers


def chosen_layers(model: nn.Module, filter_fn: Filter | None) -> list[Candidate]:
    """Layers that the filter wants and that can be converted.

    Raises
    ------
    TypeError, ValueError
        If one that the filter wants cannot be converted as it is.
    """
    check_filter(filter_fn)
    found = []
    for candidate in _candidates(model):
        if filter_fn is None or filter_fn(candidate.layer, candidate.name):
            if candidate.whole is None:
                _check_weight(candidate.name, candidate.layer)
            else:
                linear_parts.check(candidate.whole)
            found.append(candidate)
    return found


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if linear_parts.parts(module):
            inside.update(module.modules())
            for part, layer in _members(module).items():
                yield Candidate(f"{name}.{part}" if name else part, layer, module)
        elif crossbar_class(module) is not None:
            yield Candidate(name, module, None)


def _members(module: nn.Module) -> dict[str, nn.Module]:
    """The linear layers that ``module`` can have."""
    members: dict[str, nn.Module] = {
        part: linear_parts.linear_part(module, *names)
        for part, names in linear_parts.parts(module).items()
    }
    if isinstance(module, nn.MultiheadAttention):
        members["out_proj"] = linear_parts.linear_part(
            module.out_proj, "weight", "bias" if module.out_proj.bias is not None else None
        )
    return members


def _check_weight(name: str, module: nn.Module) -> None:
    weight = module._parameters.get("weight")
    if weight is None:
        raise _arguments.wrong_value(
            "model",
            f"{name or 'the layer'!r} to have an ordinary weight",
            "one that is pruned or parametrized; make it permanent first",
        )


def specs_of(spec: Specs | None, layers: Mapping[str, nn.Module]) -> dict[str, CrossbarSpec]:
    """The spec of each layer by its name.

    Raises
    ------
    TypeError, ValueError
        If a pattern matches no layer, or a spec is none.
    """
    if isinstance(spec, Mapping):
        _arguments.patterns("spec", spec, layers, "a layer")
    elif not (spec is None or isinstance(spec, CrossbarSpec) or callable(spec)):
        raise _arguments.wrong_type("spec", "a CrossbarSpec, a mapping or a callable", spec)
    found = {}
    for name, layer in layers.items():
        one: Any = spec
        if isinstance(spec, Mapping):
            one = next((s for pattern, s in spec.items() if fnmatchcase(name, pattern)), None)
        elif callable(spec):
            one = spec(layer, name)
        if not (one is None or isinstance(one, CrossbarSpec)):
            raise _arguments.wrong_type("spec", f"a CrossbarSpec for {name!r}", one)
        found[name] = CrossbarSpec() if one is None else one
    return found


def digital_layers(
    model: nn.Module, chosen: Mapping[str, Any], filter_fn: Filter | None
) -> list[Digital]:
    """Modules that multiply with weights but for the ``chosen`` and those with crossbars."""
    found = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        names = [f"{name}.{part}".lstrip(".") for part in linear_parts.parts(module)]
        if names:
            inside.update(module.modules())
        if isinstance(module, CrossbarLayer) or not chosen.keys().isdisjoint([name, *names]):
            continue
        if crossbar_class(module) is None and not isinstance(module, _MULTIPLYING):
            continue
        if isinstance(module, linear_parts.APART):
            continue
        convertible = bool(names) or crossbar_class(module) is not None
        wanted = not convertible and not isinstance(module, LowRankAdapter)
        wanted = wanted and (filter_fn is None or bool(filter_fn(module, name)))
        found.append(Digital(name, module, _weights(module, deep=bool(names)), wanted))
    return found


def _weights(module: nn.Module, deep: bool) -> int:
    parameters = module.parameters(recurse=deep)
    ready = [p for p in parameters if not isinstance(p, nn.parameter.UninitializedParameter)]
    return sum(p.numel() for p in ready if p.ndim > 1)
