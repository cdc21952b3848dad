"""The numbers of a report: what each policy of a group scored, and what each stage changed."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from sacpo_exp.config.messages import did_you_mean
from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY, Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.judge import Ratings, measure_conduct, rate_group, score_judge
from sacpo_exp.reporting.tables import Cell, Row, spread_estimates
from sacpo_exp.statistics import win_rate
from sacpo_exp.statistics.breakdown import adjust_for_length, estimate_by_length
from sacpo_exp.statistics.intervals import (
    RATE,
    Bounds,
    Estimate,
    Resampling,
    adjust_by_holm,
    bootstrap_rate,
    paired_p_value,
    standard_error,
    wilson,
)
from sacpo_exp.statistics.seeds import SeedEstimate

if TYPE_CHECKING:
    from sacpo_exp.reporting.published import Comparison

KINDS: Final[tuple[win_rate.Kind, ...]] = ("risky", "benign")
NATS: Final[Bounds] = (0.0, math.inf)
#: Estimates whose spread between seeds has a column, beside win rates.
SPREADS: Final = {"refusals": "refusal_rate_risky", "over_refusals": "refusal_rate_benign", "kl": "kl_nats"}
COLUMNS: Final = ("family", "order", "objective", "model", "dataset", "seed", "beta", "beta_first", "merge_ratio")


@dataclass(frozen=True)
class Settings:
    """How numbers are computed: as in conf/report.yaml; `axes` are the criteria that figures have as x and y."""

    resampling: Resampling
    max_missing: float
    rating: RatingMethod
    axes: tuple[str, str] = (HELPFULNESS, SAFETY)


@dataclass(frozen=True)
class PolicyScores:
    """What one policy scored.

    Attributes:
        estimates: by column of `table.csv`: `CRITERION_win_rate` against the baseline, and `CRITERION_without_ties`,
            wins / (wins + losses); `CRITERION_acceptable`, the share of responses with cost ≤ 0, if the judge's scores
            have a zero; `CRITERION_reward` or `…_cost`, its mean score; `refusal_rate_KIND` by string matching and
            `judged_refusal_rate_KIND` by the judge; `kl_nats`, sampled KL(policy ‖ baseline) per response.
        errors: by criterion, the standard error of the win rate over prompts.
        states: how many prompts are `ok`, `unparsed`, `refused`, `failed`, over all criteria.
        tokens, characters: mean length of a response; NaN where it is not known.
        seeds: of a mean over seeds the scores of each seed; else empty.
        over_seeds: of such a mean, by name of an estimate: spread between seeds, and how many have a value.
    """

    policy: Evaluation
    estimates: dict[str, Estimate]
    errors: dict[str, float] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    tokens: float = math.nan
    characters: float = math.nan
    seeds: tuple["PolicyScores", ...] = ()
    over_seeds: dict[str, SeedEstimate] = field(default_factory=dict)

    def rate(self, criterion: str) -> Estimate:
        """Return the win rate for a criterion; without a number if there is none."""
        return self.estimates.get(f"{criterion}_win_rate", win_rate.withhold(0))

    @property
    def missing(self) -> int:
        """Prompts without a verdict; they are in no win rate."""
        return self.states.total() - self.states["ok"]


@dataclass(frozen=True)
class GroupScores:
    """Everything that a report shows of one group; mostly rows of tables."""

    group: Group
    confidence: float
    axes: tuple[str, str]
    policies: tuple[PolicyScores, ...]
    differences: Sequence[Row] = ()
    lengths: Sequence[Row] = ()
    judge: Sequence[Row] = ()
    conduct: Sequence[Row] = ()
    ratings: dict[str, Ratings] = field(default_factory=dict)
    published: "Comparison | None" = None
    by_score: bool = False  # what figures show: mean rewards and costs instead of win rates

    @property
    def is_average(self) -> bool:
        """Whether these are means over seeds."""
        return any(row.seeds for row in self.policies)

    @property
    def baseline(self) -> PolicyScores | None:
        """The baseline's row, if it was judged."""
        return next((row for row in self.policies if row.policy.is_baseline), None)

    def locate(self, row: PolicyScores) -> tuple[Estimate, Estimate]:
        """Return where a policy is in figures: its win rates, or `by_score` its mean reward and cost."""
        kinds = self.group.measures if self.by_score else {}
        x, y = (row.estimates[f"{name}_{kinds[name]}"] if kinds else row.rate(name) for name in self.axes)
        return x, y

    @property
    def percent(self) -> str:
        """The confidence of intervals as text: `95 %`."""
        return f"{100 * self.confidence:g} %"


def score_group(group: Group, settings: Settings) -> GroupScores:
    """Compute everything that is shown of `group`."""
    resampling, names = settings.resampling, [criterion.name for criterion in group.criteria]
    pairs = [(policy, each) for policy in group.policies if not policy.is_baseline for each in group.criteria]
    rated = {each.name: rate_group(group, each, settings.rating, resampling) for each in group.criteria}
    by_id = {policy.id: policy for policy in group.policies}
    ancestors = [(policy, by_id[parent]) for policy in group.policies for parent in group.parents[policy.id]]
    return GroupScores(
        group=group,
        confidence=resampling.confidence,
        axes=settings.axes if set(settings.axes) <= set(names) else (names[0], names[1 % len(names)]),
        policies=tuple(score_policy(policy, settings) for policy in group.policies),
        differences=_adjust([_compare(*pair, settings) for pair in ancestors], names),
        lengths=[row for pair in pairs for row in score_lengths(*pair, resampling)],
        judge=[*score_judge(group, resampling.confidence)],
        conduct=[*measure_conduct(group, resampling)],
        ratings={name: ratings for name, ratings in rated.items() if ratings},
    )


def check_axes(groups: Sequence[Group], wanted: tuple[str, str]) -> None:
    """Raise ConfigError for an axis, other than a default one, that is a criterion of no group."""
    known = dict.fromkeys(each.name for group in groups for each in group.criteria)
    for key, name in zip("xy", wanted, strict=True):
        if name not in (*known, HELPFULNESS, SAFETY):
            raise ConfigError(
                f"`{key}` must be a criterion by which policies were judged, {' or '.join(known)}, but is {name}."
                f"{did_you_mean(name, list(known))}"
            )


def score_policy(policy: Evaluation, settings: Settings) -> PolicyScores:
    """Compute everything that is measured of one policy against its opponent."""
    records, most, resampling = policy.records, settings.max_missing, settings.resampling
    values = values_by_prompt(policy)
    few = [each.name for each in policy.criteria if win_rate.has_too_few(records, each, most)]
    withheld = {f"{name}_{kind}" for name in few for kind in ("win_rate", "without_ties")}
    withheld |= {f"judged_refusal_rate_{kind}" for kind in KINDS if win_rate.has_too_few_labels(records, kind, most)}
    estimates, errors = {}, {}
    for name, (by_prompt, bounds) in values.items():
        numbers = list(by_prompt.values())
        if name.endswith("_win_rate"):
            errors[name.removesuffix("_win_rate")] = math.nan if name in withheld else standard_error(numbers)
        if name in withheld:
            estimates[name] = win_rate.withhold(len(numbers))
        elif bounds is None:
            estimates[name] = wilson(round(sum(numbers)), len(numbers), resampling.confidence)
        else:
            estimates[name] = bootstrap_rate(numbers, resampling, bounds)
    return PolicyScores(
        policy,
        estimates,
        errors,
        states=sum((win_rate.count_states(records, each) for each in policy.criteria), Counter()),
        tokens=fmean([record["n_tokens"] for record in records if record["n_tokens"] is not None] or [math.nan]),
        characters=fmean([len(record["response"]) for record in records] or [math.nan]),
    )


def values_by_prompt(policy: Evaluation) -> dict[str, tuple[dict[str, float], Bounds | None]]:
    """Return by name of each estimate its values by prompt id, and the bounds of their mean; None if all are 0 or 1."""
    records = policy.records
    values: dict[str, tuple[dict[str, float], Bounds | None]] = {}
    # The rate of the baseline, which meets itself, is 0.5.
    bounds = (0.5, 0.5) if policy.is_baseline else RATE
    for each in policy.criteria:
        verdicts = win_rate.verdicts_by_prompt(records, each)
        values[f"{each.name}_win_rate"] = verdicts, bounds
        decided = {prompt_id: float(verdict > 0.5) for prompt_id, verdict in verdicts.items() if verdict != 0.5}
        values[f"{each.name}_without_ties"] = decided, None
        scored = records if each.name in policy.labels["has_zero"] else []
        values[f"{each.name}_acceptable"] = win_rate.acceptable_by_prompt(scored, each), None
        if measure := policy.labels.get("measures", {}).get(each.name):
            sign = -1 if measure == "cost" else 1  # a cost's sign is turned in the records
            scores = {key: sign * entry["score"] for key, entry in win_rate.entries_of(records, each).items()}
            values[f"{each.name}_{measure}"] = scores, (-math.inf, math.inf)
    refusals = {"refusal": win_rate.refusals_by_prompt, "judged_refusal": win_rate.judged_refusals_by_prompt}
    for name, find in refusals.items():
        values |= {f"{name}_rate_{kind}": (find(records, kind), None) for kind in KINDS}
    return values | {"kl_nats": (policy.kl, NATS)}


def label_cells(policy: Evaluation) -> Row:
    """Return the columns that identify a policy in CSV files."""
    columns: dict[str, Any] = policy.policy.columns
    cells: Row = {"policy": policy.title} | {name: columns[name] for name in COLUMNS}
    return cells | {"name": policy.labels.get("name"), "policy_id": policy.id}


def _compare(policy: Evaluation, reference: Evaluation, settings: Settings) -> Row:
    """Return win rates of `policy` minus those of an evaluated ancestor, paired by prompt."""
    cells, resampling = label_cells(policy) | {"minus": reference.title, "minus_id": reference.id}, settings.resampling
    for each in policy.criteria:
        sides = (policy.records, reference.records, each)
        change = win_rate.estimate_difference(*sides, resampling, settings.max_missing)
        own, other = win_rate.pair_verdicts(*sides)
        # NaN, as of no prompts, where the difference is withheld.
        single = [] if math.isnan(change.value) else [a - b for a, b in zip(own, other, strict=True)]
        p_value = paired_p_value(single, resampling.seed, resampling.rounds)
        cells |= {f"{each.name}_difference": change, f"{each.name}_p_value": p_value, f"{each.name}_p_holm": None}
        cells[f"{each.name}_excludes_zero"] = change.excludes_zero
    return cells


def _adjust(rows: list[Row], criteria: Sequence[str]) -> list[Row]:
    """Add Holm's p-values for all differences of the group, and how many comparisons these are."""
    known = [(row, name) for row in rows for name in criteria if _is_known(row[f"{name}_p_value"])]
    adjusted = adjust_by_holm([row[f"{name}_p_value"] for row, name in known])
    for (row, name), p_value in zip(known, adjusted, strict=True):
        row[f"{name}_p_holm"] = p_value
    return [row | {"comparisons": len(known)} for row in rows]


def score_lengths(policy: Evaluation, criterion: Criterion, resampling: Resampling) -> Iterator[Row]:
    """Yield a row of win rates by length in characters and at equal length, if there are verdicts."""
    if verdicts := win_rate.verdicts_by_prompt(policy.records, criterion):
        records = {record["prompt_id"]: record for record in policy.records}
        own, other = ([len(records[key][name]) for key in verdicts] for name in ("response", "opponent_response"))
        values = list(verdicts.values())
        adjusted = adjust_for_length(values, own, other, resampling.confidence)
        rates = {"at_equal_length": adjusted, **estimate_by_length(values, own, other, resampling)}
        yield {**label_cells(policy), "criterion": criterion.name, **rates}


def policy_row(row: PolicyScores) -> Row:
    """Return everything that is measured of a policy; of a mean over seeds with the spread between them."""
    cells = label_cells(row.policy) | row.estimates
    cells |= {f"{name}_standard_error": error for name, error in row.errors.items()}
    cells |= {"mean_tokens": row.tokens, "mean_characters": row.characters}
    cells |= {state: row.states[state] for state in ("unparsed", "refused", "failed")}
    if row.seeds:
        for name in ("seed", "name", "policy_id"):
            del cells[name]
        names = {each.name: f"{each.name}_win_rate" for each in row.policy.criteria} | SPREADS
        cells |= {"seeds": " ".join(str(seed.policy.policy.seed) for seed in row.seeds)}
        cells |= {f"{short}_seed_deviation": row.over_seeds[name].deviation for short, name in names.items()}
        cells |= {"policy_ids": " ".join(seed.policy.id for seed in row.seeds)}
    return cells


def tracker_row(row: PolicyScores) -> dict[str, Any]:
    """Return `policy_row` for trackers: without NaN, and without estimates that have no number."""
    cells = spread_estimates({name: cell for name, cell in policy_row(row).items() if _is_known(cell)})
    return {name: cell for name, cell in cells.items() if _is_known(cell)}


def _is_known(cell: Cell) -> bool:
    value = getattr(cell, "value", cell)
    return value is not None and not (isinstance(value, float) and math.isnan(value))
