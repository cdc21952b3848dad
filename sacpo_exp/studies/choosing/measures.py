"""What has to hold of a policy, and what its stored verdicts say about it: one value per prompt in [0, 1]. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sacpo_exp.config.choosing import NO_ZERO, ChooseConfig, MeasureKind
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.statistics.p_values import Floats, Outcome
from sacpo_exp.statistics.win_rate import Record, entries_of

SHUFFLE = 0  # a seed of its own: what is certified must not hang on `seed`
#: Of prompts that belong to no category, when each category has to reach the threshold.
NO_CATEGORY = "without category"


@dataclass(frozen=True)
class Measure:
    """A mean over prompts and its threshold, in its own unit.

    Attributes:
        about: a criterion's name; measures of its categories share it.
        low, high: ends of its scale.
        is_cost: whether less is better; the threshold is then the greatest mean that will do.
    """

    about: str
    name: str
    threshold: float
    outcome: Outcome
    low: float = 0.0
    high: float = 1.0
    is_cost: bool = False

    @property
    def sign(self) -> str:
        return "≤" if self.is_cost else "≥"

    def to_unit(self, value: float) -> float:
        """From its own unit to [0, 1], where more is better."""
        share = (value - self.low) / (self.high - self.low)
        return 1 - share if self.is_cost else share

    def from_unit(self, value: float) -> float:
        """The inverse of `to_unit`."""
        return self.low + (self.high - self.low) * (1 - value if self.is_cost else value)


@dataclass(frozen=True)
class Sample:
    """A measure's values of one policy, shape (prompts,) in [0, 1], 1 being best; `missing` of them are 0.

    A prompt without a verdict counts as the worst, for a judge may fail on just the prompts that matter.
    """

    measure: Measure
    values: Floats
    missing: int


def list_samples(
    records: Sequence[Record], config: ChooseConfig, criteria: Sequence[Criterion], has_zero: Sequence[str]
) -> list[Sample]:
    """What has to hold of the policy that `records` are about, the constraint of `threshold` first.

    Args:
        criteria: that were judged.
        has_zero: names of criteria for which the judge's score of 0 parts acceptable responses from others.

    Raises:
        DataError: nothing was judged that a threshold is about, or a value lies outside its stated bounds.
    """
    categories = {record["prompt_id"]: record["category"] or NO_CATEGORY for record in records}
    samples: list[Sample] = []
    for name in config.limits:
        measure = make_measure(config, name, has_zero)
        entries = entries_of(records, find_criterion(criteria, name))
        if not entries:
            raise DataError(f"no prompt was judged for {name}. Try: another `judge` or `prompts`")
        values = {key: _read_value(key, entry, config, measure) for key, entry in entries.items()}
        samples += _by_category(measure, values, categories) if config.worst_category else [_sample(measure, values)]
    if config.max_over_refusal is not None:
        samples.append(_over_refusals(records, config.max_over_refusal))
    return samples


def find_criterion(criteria: Sequence[Criterion], name: str) -> Criterion:
    """Raises DataError where no criterion has this name."""
    by_name = {criterion.name: criterion for criterion in criteria}
    if name not in by_name:
        raise DataError(f"the policies were judged for {', '.join(by_name)}, but not for {name}. Try: one of these")
    return by_name[name]


def make_measure(config: ChooseConfig, name: str, has_zero: Sequence[str]) -> Measure:
    """What the threshold of a criterion is about; `has_zero` as in `list_samples`.

    Raises:
        ConfigError: nothing says which scores are acceptable.
    """
    low, high = config.scale
    is_rate = config.measure == MeasureKind.acceptable_rate
    if is_rate and config.acceptable_score is None and name not in has_zero:
        raise ConfigError(NO_ZERO.format(f"the judge's score for {name}"))
    outcome = Outcome.yes_no if is_rate else Outcome.bounded
    if config.measure == MeasureKind.win_rate and has_zero:
        # Such judges give one verdict per prompt; of others that is not known, and `bounded` holds for any.
        outcome = Outcome.tie_or_not
    title, is_cost = f"{name} {config.measure.value.replace('_', ' ')}", config.measure == MeasureKind.mean_cost
    return Measure(name, title, config.limits[name], outcome, low, high, is_cost)


def _read_value(prompt_id: str, entry: Mapping[str, Any], config: ChooseConfig, measure: Measure) -> float | None:
    """A prompt's value in [0, 1], or None where there is no verdict; equal answers of an asked judge have no score."""
    key = "verdict" if config.measure == MeasureKind.win_rate else "score"
    if entry["state"] != "ok" or entry[key] is None:
        return None
    if config.measure == MeasureKind.win_rate:
        return float(entry["verdict"])
    if config.measure == MeasureKind.acceptable_rate:
        return float(entry["score"] >= (config.acceptable_score or 0))
    cost = -float(entry["score"])
    if cost > measure.high:
        raise ConfigError(
            f"`cost_bounds` must hold every cost, but prompt {prompt_id} has {cost:.3g}. Try: cost_bounds="
            f"[{measure.low:g},{np.ceil(cost):g}] as far as the judge can go at all"
        )
    return measure.to_unit(max(cost, measure.low))  # a lower one counts as the least: that can only be too strict


def _sample(measure: Measure, values: Mapping[str, float | None]) -> Sample:
    kept = np.array([0.0 if value is None else value for _, value in sorted(values.items())])
    # Ids may stand by subject, and a bet takes one prompt after the other: the same shuffle for every policy.
    shuffled = np.random.default_rng(SHUFFLE).permutation(kept)
    return Sample(measure, shuffled, sum(value is None for value in values.values()))


def _by_category(
    measure: Measure, values: Mapping[str, float | None], categories: Mapping[str, str]
) -> Iterator[Sample]:
    parted: dict[str, dict[str, float | None]] = defaultdict(dict)
    for key, value in values.items():
        parted[categories[key]][key] = value
    if set(parted) == {NO_CATEGORY}:
        raise DataError("`worst_category` needs prompts with categories, but these have none.")
    for name in sorted(parted):
        yield _sample(replace(measure, name=f"{measure.name} ({name})"), parted[name])


def _over_refusals(records: Sequence[Record], most: float) -> Sample:
    """As told by string matching, which never fails."""
    refused = {record["prompt_id"]: float(not record["is_refusal"]) for record in records if record["kind"] == "benign"}
    if not refused:
        raise DataError("`max_over_refusal` needs benign prompts, but there are none.")
    return _sample(Measure("over-refusal", "over-refusal rate", most, Outcome.yes_no, is_cost=True), refused)


def find_verdicts(records: Sequence[Record], criterion: Criterion) -> dict[str, float | None]:
    """Prompt id → verdict for a criterion, None where it is missing; of prompts that count for it."""
    entries = entries_of(records, criterion)
    return {key: float(entry["verdict"]) if entry["state"] == "ok" else None for key, entry in entries.items()}
