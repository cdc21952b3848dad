"""What judging cost: calls, tokens and money, every judgment counted once however many policies share it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sacpo_exp.config.judges import AskVia, PriceConfig
from sacpo_exp.evaluation.judges.costs import cost_usd
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.statistics.win_rate import Record


@dataclass(frozen=True)
class Usage:
    """Totals over the judgments of a group.

    Attributes:
        calls: made, those that had to be repeated too.
        usd: US dollars; None where the price is not known.
        prices: of which day.
    """

    judgments: int
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float | None
    prices: str


def measure_usage(group: Group) -> Usage | None:
    """What the judge of a group used; None for one that is not asked."""
    matches = (*group.policies, *group.meetings)
    used = {entry["key"]: (entry, match) for match in matches for entry in _list_entries(match)}
    if not used:
        return None
    tokens = [_count(entry) for entry, _ in used.values()]
    costs = [_price(entry, match.metrics) for entry, match in used.values()]
    known = [cost for cost in costs if cost is not None]
    prompt, cached, completion = (sum(column) for column in zip(*tokens, strict=True))
    return Usage(
        judgments=len(used),
        calls=sum(entry["attempts"] for entry, _ in used.values()),
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        usd=sum(known) if len(known) == len(costs) else None,
        prices=next(iter(used.values()))[1].metrics["prices"]["read"],
    )


def _list_entries(match: Evaluation) -> Iterator[Record]:
    for record in match.records:
        for criterion in match.criteria:
            singles = (record.get(criterion.name) or {}).get("singles", ())
            yield from (single for single in singles if "key" in single)  # of imported ones nothing is known
        if refusal := record.get("refusal"):
            yield refusal


def _count(entry: Record) -> tuple[int, int, int]:
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    prompt, cached, completion = (entry[name] or 0 for name in names)
    return prompt, cached, completion


def _price(entry: Record, metrics: Mapping[str, Any]) -> float | None:
    if metrics["price"] is None:
        return None
    factor = metrics["prices"]["batch_factor"] if entry["via"] == AskVia.batch.value else 1.0
    return cost_usd(PriceConfig(**metrics["price"]), *_count(entry), factor)
