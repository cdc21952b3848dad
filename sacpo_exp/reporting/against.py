"""Our policies beside published ones: which belong together, how they differ, and where that is more than chance."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sacpo_exp.method.policy import Merged, Policy
from sacpo_exp.reporting.numbers import NOTHING, format_estimate, format_number, shorten
from sacpo_exp.reporting.published.reading import Published, PublishedRow
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.section import Section
from sacpo_exp.statistics.intervals import Estimate, subtract_shares, wilson

WIDTH: Final = 118  # characters of a note's line


@dataclass(frozen=True)
class Pairing:
    """A published row and one of our policies that is trained in the same way.

    Attributes:
        own: None where we have none; then the differences have no number.
        differences: ours minus theirs, by criterion.
    """

    row: PublishedRow
    own: PolicyScores | None
    differences: dict[str, Estimate]

    @property
    def drawn(self) -> tuple[PublishedRow, PolicyScores] | None:
        """The two, where both have a place in a figure."""
        is_known = self.differences and not any(math.isnan(change.value) for change in self.differences.values())
        return (self.row, self.own) if self.own and is_known else None


@dataclass(frozen=True)
class Comparison:
    """A group against a published table.

    Attributes:
        pairings: in the order of the table, each row at least once.
        criteria: names of those that both sides have rates for.
        unmatched: how many of our policies, the baseline apart, are in none of them.
        differing: what is not the same there and here: ("judge", theirs, ours).
    """

    published: Published
    pairings: tuple[Pairing, ...]
    criteria: tuple[str, ...]
    unmatched: int
    differing: tuple[tuple[str, str, str], ...]


def add_comparison(scores: GroupScores, published: Published | None) -> GroupScores:
    """The scores with their comparison, if there is something to compare them with."""
    return replace(scores, published=compare_with(scores, published)) if published else scores


def compare_with(scores: GroupScores, published: Published) -> Comparison:
    """Match by losses, order, kind of merge, q and β: of the last stage, and of the first where both are known."""
    own = [policy for policy in scores.policies if not policy.policy.is_baseline]
    criteria = tuple(each.name for each in scores.group.criteria if each.name in published.rows[0].rates)
    pairings: list[Pairing] = []
    for row in published.rows:
        found = [policy for policy in own if _is_same(row.policy.policy, policy.policy.policy, row.also)]
        pairings += [_pair(row, policy, criteria, published.confidence) for policy in found or (None,)]
    matched = {pairing.own.policy.id for pairing in pairings if pairing.own}
    unmatched = sum(policy.policy.id not in matched for policy in own)
    return Comparison(published, tuple(pairings), criteria, unmatched, tuple(_find_differing(scores, published)))


def _is_same(theirs: Policy, ours: Policy, also: Sequence[str]) -> bool:
    if ours.family in also or (ours.family == theirs.family and not theirs.aligned):
        return True
    if not theirs.aligned or _kind(theirs) != _kind(ours):
        return False
    steps, our_steps = _steps(theirs), _steps(ours)
    return [step[:2] for step in steps] == [step[:2] for step in our_steps] and all(
        _agree(value, our_value)
        for step, our_step in zip(steps, our_steps, strict=True)
        for value, our_value in zip(step[2:], our_step[2:], strict=True)
    )


def _kind(policy: Policy) -> str:
    return ("naive" if policy.is_naive else "linear") if isinstance(policy, Merged) else ""


def _steps(policy: Policy) -> list[tuple[str | None, str, float | None, float | None]]:
    """Criterion, loss, β and weight of each stage; of a naive merge, which has no order, by criterion."""
    weights = policy.weights or (None,) * len(policy.aligned)
    steps = [
        (stage.criterion, stage.loss, stage.beta, weight) for stage, weight in zip(policy.aligned, weights, strict=True)
    ]
    return sorted(steps, key=lambda step: str(step[0])) if _kind(policy) == "naive" else steps


def _agree(one: float | None, other: float | None) -> bool:
    return one is None or other is None or math.isclose(one, other)


def _pair(row: PublishedRow, own: PolicyScores | None, criteria: Sequence[str], confidence: float) -> Pairing:
    if own is None:
        return Pairing(row, None, dict.fromkeys(criteria, Estimate(math.nan, math.nan, math.nan, 0)))
    shares = {name: subtract_shares(_as_share(own.rate(name), confidence), row.rates[name]) for name in criteria}
    return Pairing(row, own, shares)


def _as_share(rate: Estimate, confidence: float) -> Estimate:
    """A rate with Wilson's interval, as the published ones have."""
    return rate if math.isnan(rate.value) else wilson(rate.value * rate.n, rate.n, confidence)


def _find_differing(scores: GroupScores, published: Published) -> list[tuple[str, str, str]]:
    policies = [policy.policy.labels for policy in scores.policies]
    judge = f"{policies[0]['judge']} ({policies[0]['judge_id']})"
    ours = {name: ", ".join(sorted({str(p[name]) for p in policies if p.get(name)})) for name in ("model", "dataset")}
    ours |= {"prompts": policies[0]["prompts"], "judge": judge}
    theirs = {name: getattr(published, name) for name in ("judge", "prompts", "model", "dataset")}
    is_same_judge = str(policies[0]["judge_id"]).startswith(published.judge)
    return [
        (name, theirs[name], ours[name])
        for name in theirs
        if (not is_same_judge if name == "judge" else theirs[name] != ours[name])
    ]


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Published and own rates with their difference, a table for each criterion."""
    notes = itertools.chain([_explain(comparison)], itertools.repeat("As in the table above."))
    return [_compare_rates(comparison, name, note) for name, note in zip(comparison.criteria, notes, strict=False)]


def _compare_rates(comparison: Comparison, name: str, note: str) -> Section:
    rows = [["published policy", "published", "ours", "difference"]]
    for pairing in comparison.pairings:
        difference = pairing.differences[name]
        ours = format_number(pairing.own.rate(name).value, ".2f") if pairing.own else NOTHING
        # The mark's column is kept where there is none, so that numbers stand below one another.
        change = format_estimate(difference, "+") + (" *" if difference.excludes_zero else "  ")
        rows.append([_name(pairing), format_estimate(pairing.row.rates[name]), ours, change])
    return Section(f"{name.capitalize()} beside {comparison.published.short}", rows, 1, note)


def _name(pairing: Pairing) -> str:
    """What was published, and what ours is called where that is something else."""
    title, own = pairing.row.policy.title, pairing.own and pairing.own.policy.title
    return title if own in (None, title) else f"{title} ({own})"


def _explain(comparison: Comparison) -> str:
    published = comparison.published
    counts = "/".join(str(published.rows[0].rates[name].n) for name in comparison.criteria)
    lines = [f"Published: {published.title}, {counts} prompts."]
    for name, theirs, ours in comparison.differing:
        lines.append(f"Other {name}: {shorten(theirs, 40)} there, {shorten(ours, 60)} here.")
    if comparison.differing:
        lines.append("So a difference need not be one between the policies.")
    mark = (
        f"* the {100 * published.confidence:g} % interval excludes 0: Newcombe's, from Wilson's of both sides. It "
        "takes the prompts of the two as different ones, and ties, which count half, as no less variable than wins and "
        "losses: rather too wide than too narrow."
    )
    unmatched = f"{comparison.unmatched} of our policies, the baseline apart, have no published row."
    lines += [*textwrap.wrap(mark, WIDTH), f"{unmatched} Sources: published.csv."]
    return "\n".join(lines)
