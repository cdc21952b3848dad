"""Accuracy and position bias of a judge, what asking it cost, and ratings of policies from all its judgments."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sacpo_exp.config.judges import AskVia, PriceConfig
from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.evaluation.judges.costs import cost_usd
from sacpo_exp.evaluation.ledger.records import State
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.tables import Row
from sacpo_exp.statistics.agreement import measure_positions
from sacpo_exp.statistics.comparisons import gather_comparisons
from sacpo_exp.statistics.intervals import Resampling, wilson
from sacpo_exp.statistics.ratings import SCALE, fit_bradley_terry, rate_online
from sacpo_exp.statistics.win_rate import Record, entries_of, list_singles

BIASES = ("flip_rate", "half_flip_rate", "first_rate", "tie_rate", "repeat_deviation")
#: Counts of a judgment, with their titles.
TOKENS = {"prompt_tokens": "tokens in", "cached_tokens": "of them cached", "completion_tokens": "tokens out"}


def score_judge(group: Group, confidence: float) -> Iterator[Row]:
    """Yield the stored accuracy of a fitted judge on held-out comparisons, and of two simple rules, by criterion."""
    for each in group.criteria:
        if metrics := group.judge_metrics.get(each.name):
            n = metrics["n"]
            accuracy = wilson(round(metrics["accuracy"] * n) if n else 0, n, confidence)
            rules = {name.replace("_", " "): metrics[name] if n else math.nan for name in ("length_only", "keyword")}
            yield {"criterion": each.name, "judge": accuracy, **rules}


def measure_conduct(group: Group, resampling: Resampling) -> Iterator[Row]:
    """Yield states of single judgments and position bias, of all policies and of each; nothing for a fitted judge."""
    matches = (*group.policies, *group.meetings)
    for criterion in group.criteria:
        yield from _measure_conduct("all policies", matches, criterion, resampling)
        for policy in group.policies:
            own = [match for match in matches if policy.id in (match.id, match.opponent_id)]
            yield from _measure_conduct(policy.title, own, criterion, resampling)


def _measure_conduct(
    title: str, matches: Sequence[Evaluation], criterion: Criterion, resampling: Resampling
) -> Iterator[Row]:
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
        cells: Row = {"matches_of": title, "criterion": criterion.name}
        cells |= {state.value: states[state] for state in State}
        yield cells | {name: getattr(bias, name) for name in BIASES}


def measure_usage(group: Group) -> Row | None:
    """Return what asking the judge used, each judgment counted once; None for a judge that is not asked.

    `calls` include repeated ones; `US dollars` are None if a price is not known; `prices` is the day of the price list.
    """
    matches = (*group.policies, *group.meetings)
    used = {entry["key"]: (entry, match) for match in matches for entry in _list_entries(match)}
    if not used:
        return None
    costs = [_price(entry, match) for entry, match in used.values()]
    known = [cost for cost in costs if cost is not None]
    row: Row = {"judgments": len(used), "calls": sum(entry["attempts"] for entry, _ in used.values())}
    row |= {title: sum(entry[name] or 0 for entry, _ in used.values()) for name, title in TOKENS.items()}
    row["US dollars"] = sum(known) if len(known) == len(costs) else None
    return row | {"prices": next(iter(used.values()))[1].metrics["prices"]["read"]}


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


#: Rows of a table, the strongest policy first, and notes that name policies without a rating, and why.
Ratings = tuple[list[Row], list[str]]


def rate_group(group: Group, criterion: Criterion, method: RatingMethod, resampling: Resampling) -> Ratings | None:
    """Return ratings from all single verdicts on the prompts that count for `criterion`.

    None if policies met only the baseline: against one opponent a rating has no more information than the win rate.
    """
    if not group.meetings:
        return None
    verdicts: list[tuple[Any, ...]] = []
    for match in (*group.policies, *group.meetings):
        if match.id != match.opponent_id:
            singles = list_singles(match.records, criterion)
            columns = (singles.verdict.tolist(), singles.shown.tolist(), singles.prompt)
            verdicts += [(match.id, match.opponent_id, *single) for single in zip(*columns, strict=True)]
    comparisons = gather_comparisons(*(zip(*verdicts, strict=True) if verdicts else [()] * 5))
    if group.baseline_id not in comparisons.policies:
        return None
    if method == RatingMethod.elo_online:
        ratings = rate_online(comparisons, group.baseline_id, seed=resampling.seed)
    else:
        # A judge that sees one response at a time has no order of responses.
        has_order = bool(comparisons.shown.any())
        ratings = fit_bradley_terry(
            comparisons, group.baseline_id, has_order_effect=has_order, confidence=resampling.confidence
        )
    titles = {policy.id: policy.title for policy in group.policies}
    notes = [f"{titles[policy]}: not rated, {reason}." for policy, reason in ratings.unrated.items()]
    if effect := ratings.order_effect:
        error = effect.plain_error if math.isnan(effect.clustered_error) else effect.clustered_error
        notes.append(
            f"Being shown first is worth {SCALE * effect.value:+.0f} points, standard error {SCALE * error:.0f}."
        )
    notes += [ratings.note] if ratings.note else []
    rows = []
    for each in ratings.rated:
        cells: Row = {"criterion": criterion.name, "method": method.value, "policy": titles[each.policy]}
        errors = {"plain_standard_error": SCALE * each.coefficient.plain_error, "spread": each.spread}
        counts = {"wins": each.tally.wins, "ties": each.tally.ties, "losses": each.tally.losses}
        rows.append({**cells, "rating": each.elo, **errors, **counts})
    return rows, notes
