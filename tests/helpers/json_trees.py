"""Trees of JSON values, changed at random: what files and texts can hold that nobody wrote."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**32, 2**46, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 65_536]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.5, -0.0, 1e-320, 1e-45, 1.2e-38, 3.4e38, 3.5e38, 1e300]),
)
NAMES = st.sampled_from(
    ["", "conv.weight", "dense.weight", "steps", "scale", "a\0b", "F16", "BF16"]
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, NAMES, st.text(max_size=5))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of a tree, its own among them."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(tree: Any, draw: Any) -> Any:
    """A tree with one value replaced, removed, repeated or exchanged for a neighbor."""
    path = draw(st.sampled_from(list(places(tree))))
    if not path:
        return draw(VALUES)
    tree = copy.deepcopy(tree)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    kind = draw(st.sampled_from(["replace", "scale", "remove", "repeat", "swap"]))
    if kind == "scale" and type(parent[key]) in (int, float):
        factor = draw(st.sampled_from([-1, 0, 1 + 1e-9, 1.001, 2, 1000, 1e-30, 1e30]))
        parent[key] = type(parent[key])(parent[key] * factor)
    elif kind == "remove":
        del parent[key]
    elif kind == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == "repeat":
        parent[draw(NAMES)] = copy.deepcopy(parent[key])
    elif kind == "swap":
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        other = draw(st.sampled_from(keys))
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[key] = draw(VALUES)
    return tree


MANY = settings(
    deadline=None, derandomize=True, max_examples=400,
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip


def any_tree(tree: Any, check: Callable[[Any], object]) -> Any:
    """The same of what is made of a tree of JSON values."""

    @MANY
    @given(st.data())
    def run(data: st.DataObject) -> None:
        found = changed(tree, data.draw)
        check(changed(found, data.draw) if data.draw(st.booleans()) else found)

    return run
