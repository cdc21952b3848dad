"""How a judge behaved: its accuracy, failures, position bias, and what asking it cost."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sacpo_exp.config.judges import AskVia, PriceConfig
from sacpo_exp.evaluation.judges.costs import cost_usd
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.statistics.agreement import PositionBias, measure_positions
from sacpo_exp.statistics.intervals import Estimate, Resampling, wilson
from sacpo_exp.statistics.win_rate import Record, entries_of, list_singles

ALL = "all policies"
TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True)
class JudgeAccuracy:
    """Share of held-out comparisons that the judge decides as people did, beside two simple rules."""

    criterion: str
    accuracy: Estimate
    length_only: float
    keyword: float


@dataclass(frozen=True)
class Conduct:
    """Single judgments by state, and position bias, of the matches of one policy or (`title` "all policies") of all."""

    title: str
    criterion: Criterion
    states: Counter[str]
    bias: PositionBias


@dataclass(frozen=True)
class Usage:
    """What the judgments of a group used, each counted once however many policies share it.

    Attributes:
        calls: including those that were repeated.
        usd: US dollars; None if the price is not known.
        prices: the day of the price list.
    """

    judgments: int
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float | None
    prices: str


def score_judge(group: Group, confidence: float) -> Iterator[JudgeAccuracy]:
    """Yield the stored accuracy of a fitted judge for each criterion that it was measured on."""
    for each in group.criteria:
        if metrics := group.judge_metrics.get(each.name):
            n = metrics["n"]
            accuracy = wilson(round(metrics["accuracy"] * n) if n else 0, n, confidence)
            rules = [metrics[rule] if n else math.nan for rule in ("length_only", "keyword")]
            yield JudgeAccuracy(each.name, accuracy, *rules)


def measure_conduct(group: Group, resampling: Resampling) -> Iterator[Conduct]:
    """Yield, for each criterion, all policies together and then each; nothing for a judge that is not asked."""
    matches = (*group.policies, *group.meetings)
    for criterion in group.criteria:
        yield from _measure_conduct(ALL, matches, criterion, resampling)
        for policy in group.policies:
            own = [match for match in matches if policy.id in (match.id, match.opponent_id)]
            yield from _measure_conduct(policy.title, own, criterion, resampling)


def _measure_conduct(
    title: str, matches: Sequence[Evaluation], criterion: Criterion, resampling: Resampling
) -> Iterator[Conduct]:
    states: Counter[str] = Counter()
    prompts: list[str] = []
    units: list[str] = []
    columns = []
    for number, match in enumerate(matches):
        for entry in entries_of(match.records, criterion).values():
            states.update(single["state"] for single in entry.get("singles", ()))
        singles = list_singles(match.records, criterion)
        asked = np.flatnonzero(singles.asked & (singles.shown != 0))
        prompts += [singles.prompt[row] for row in asked]
        units += [f"{number} {singles.prompt[row]}" for row in asked]
        columns.append((singles.shown[asked], singles.verdict[asked], singles.repeat[asked]))
    if states:
        shown, verdict, repeat = (np.concatenate(column) for column in zip(*columns, strict=True))
        bias = measure_positions(prompts, units, shown, verdict, repeat, resampling)
        yield Conduct(title, criterion, states, bias)


def measure_usage(group: Group) -> Usage | None:
    """Return what the judge of a group used; None for one that is not asked."""
    matches = (*group.policies, *group.meetings)
    used = {entry["key"]: (entry, match) for match in matches for entry in _list_entries(match)}
    if not used:
        return None
    tokens = {name: sum(entry[name] or 0 for entry, _ in used.values()) for name in TOKENS}
    costs = [_price(entry, match) for entry, match in used.values()]
    known = [cost for cost in costs if cost is not None]
    return Usage(
        judgments=len(used),
        calls=sum(entry["attempts"] for entry, _ in used.values()),
        **tokens,
        usd=sum(known) if len(known) == len(costs) else None,
        prices=next(iter(used.values()))[1].metrics["prices"]["read"],
    )


def _list_entries(match: Evaluation) -> Iterator[Record]:
    for record in match.records:
        for criterion in match.criteria:
            singles = (record.get(criterion.name) or {}).get("singles", ())
            yield from (single for single in singles if "key" in single)  # imported ones have none
        if refusal := record.get("refusal"):
            yield refusal


def _price(entry: Record, match: Evaluation) -> float | None:
    price, prices = match.metrics["price"], match.metrics["prices"]
    if price is None:
        return None
    factor = prices["batch_factor"] if entry["via"] == AskVia.batch.value else 1.0
    prompt, cached, completion = (entry[name] or 0 for name in TOKENS)
    return cost_usd(PriceConfig(**price), prompt, cached, completion, factor)
