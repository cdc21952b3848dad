"""Bounds of numbers, stated beside the fields and checked before anything is computed from them."""

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

#: The largest whole number that arrays, Arrow and SQLite can hold; limit of every field without bounds.
LARGEST = 2**63 - 1
#: Upper ends above this one only catch what no machine can do; messages name them only if they are exceeded.
CAP = 2**16 - 1
_KEY = "bounds"


@dataclass(frozen=True)
class Bounds:
    """An interval; an open end does not belong to it."""

    low: float = -math.inf
    high: float = math.inf
    is_low_open: bool = False
    is_high_open: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number lies in the interval; infinity and NaN never do."""
        is_above = value > self.low if self.is_low_open else value >= self.low
        is_below = value < self.high if self.is_high_open else value <= self.high
        return is_above and is_below and math.isfinite(value)

    def describe(self, value: float) -> str:
        """Return what a number has to be instead of `value`: `at least 0 and below 1`."""
        ends = (
            [f"{'greater than' if self.is_low_open else 'at least'} {_show(self.low)}"] if self.low > -LARGEST else []
        )
        if self.high <= CAP or self.high < value < math.inf:
            ends.append(f"{'below' if self.is_high_open else 'at most'} {_show(self.high)}")
        return " and ".join(ends if math.isfinite(value) else [*ends, "finite"])


def bounded(
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    default: Any = MISSING,
) -> Any:
    """Return a dataclass field whose number, or every number of whose list, must lie in an interval."""
    low, high = above if least is None else least, below if most is None else most
    bounds = Bounds(
        -math.inf if low is None else low, math.inf if high is None else high, above is not None, below is not None
    )
    return field(default=default, metadata={_KEY: bounds})


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
        f"`{name}` must be {bounds.describe(value)}, but is {_show(value)}."
        for prefix, node, kind in walk(composed, schema)
        for part in fields(kind)
        if part.name in node and not OmegaConf.is_missing(node, part.name)
        for name, value in _numbers(f"{prefix}{part.name}", node[part.name])
        if not (bounds := _bounds_of(part, value)).holds(value)
    ]


def walk(node: Any, schema: type, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (prefix of its keys, mapping, dataclass) of a composed configuration and of all those inside it."""
    yield prefix, node, schema
    hints = get_type_hints(schema)
    for key in node:
        hint = hints.get(key)
        inner = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        value = node._get_node(key)
        if inner and value is not None and not value._is_none() and not value._is_missing():
            for name, entry in _entries(key, value, hint).items():
                kind = OmegaConf.get_type(entry)  # a judge is one of several classes
                yield from walk(entry, kind if is_dataclass(kind) else inner[0], f"{prefix}{name}.")  # type: ignore[arg-type]


def _entries(key: str, value: Any, hint: Any) -> dict[str, Any]:
    """Return the dataclasses at a key: one, or the entries of a list or of a mapping."""
    if isinstance(value, ListConfig):
        return {f"{key}[{i}]": entry for i, entry in enumerate(value)}
    if get_origin(hint) is dict:
        return {f"{key}.{name}": entry for name, entry in value.items()}
    return {key: value}


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, ListConfig):
        for i, entry in enumerate(value):
            yield from _numbers(f"{name}[{i}]", entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _bounds_of(part: "Field[Any]", value: float) -> Bounds:
    stated = part.metadata.get(_KEY)
    if isinstance(stated, Bounds):
        return stated
    return Bounds(-LARGEST, LARGEST) if isinstance(value, int) else Bounds()


def _show(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
