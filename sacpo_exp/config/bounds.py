"""Bounds of numbers, stated beside the fields and checked before anything is computed from them."""

import math
import operator
from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

#: The largest whole number that arrays, Arrow and SQLite can hold; limit of every field without bounds.
LARGEST = 2**63 - 1
#: Upper ends above this one only catch what no machine can do; messages name them only if they are exceeded.
CAP = 2**16 - 1
#: Ends of an interval: how a number is compared with it, and what a message says.
ENDS = {
    "above": (operator.gt, "greater than"),
    "least": (operator.ge, "at least"),
    "below": (operator.lt, "below"),
    "most": (operator.le, "at most"),
}


def bounded(*, default: Any = MISSING, **ends: float) -> Any:
    """Return a dataclass field whose number, or every number of whose list, must lie within `ends`, keys of `ENDS`."""
    return field(default=default, metadata={"bounds": ends})


def seed_value(default: Any = MISSING) -> Any:
    """Return a field for a seed that both NumPy and torch accept."""
    return bounded(least=0, most=2**32 - 1, default=default)


def count(least: int = 1, default: Any = MISSING) -> Any:
    """Return a field for a whole number of things."""
    return bounded(least=least, most=2**31 - 1, default=default)


def find_bound_problems(composed: Any, schema: type) -> list[str]:
    """Return one sentence for every number of a configuration, composed or typed, outside its field's bounds."""
    if not isinstance(composed, DictConfig):
        composed = OmegaConf.structured(composed)
    return [
        problem
        for prefix, node, kind in walk(composed, schema)
        for part in fields(kind)
        if part.name in node and not OmegaConf.is_missing(node, part.name)
        for problem in _check(f"{prefix}{part.name}", node[part.name], part.metadata.get("bounds"))
    ]


def _check(name: str, value: Any, bounds: dict[str, float] | None) -> Iterator[str]:
    if isinstance(value, ListConfig):
        for i, entry in enumerate(value):
            yield from _check(f"{name}[{i}]", entry, bounds)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if bounds is None:
        bounds = {"least": -LARGEST, "most": LARGEST} if isinstance(value, int) else {}
    broken = [key for key, end in bounds.items() if not ENDS[key][0](value, end)]
    is_finite = math.isfinite(value)
    if broken or not is_finite:
        named = {key: end for key, end in bounds.items() if abs(end) <= CAP or (key in broken and is_finite)}
        words = [f"{ENDS[key][1]} {_show(end)}" for key, end in named.items()] + ["finite"] * (not is_finite)
        yield f"`{name}` must be {' and '.join(words)}, but is {_show(value)}."


def _show(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def walk(node: Any, schema: type, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (prefix of its keys, mapping, dataclass) of a composed configuration and of all those inside it."""
    yield prefix, node, schema
    hints = get_type_hints(schema)
    for key in node:
        hint, value = hints.get(key), node._get_node(key)
        inner = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        if not inner or value is None or value._is_none() or value._is_missing():
            continue
        entries = {key: value}
        if get_origin(hint) is dict:
            entries = {f"{key}.{name}": entry for name, entry in value.items()}
        for name, entry in entries.items():
            kind = OmegaConf.get_type(entry)  # a judge is one of several classes
            yield from walk(entry, kind if is_dataclass(kind) else inner[0], f"{prefix}{name}.")  # type: ignore[arg-type]
