"""What can be configured of a choice among policies, and what is wrong with it. Values stand in conf/choose.yaml."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import aligned_stages


class Over(Enum):
    """What tells the policies of a family apart."""

    merge_ratio = "merge_ratio"  # of the plan, merged on demand
    beta = "beta"  # of the plan's last stage, trained before
    policies = "policies"  # any that are judged, by id


class MeasureKind(Enum):
    """What thresholds are about, on the prompts that count for their criterion."""

    win_rate = "win_rate"  # against the baseline, ties as half
    acceptable_rate = "acceptable_rate"  # share with a score of at least `acceptable_score`; with cost ≤ 0 if null
    mean_cost = "mean_cost"  # minus the score, within `cost_bounds`; the threshold is its greatest mean


class Procedure(Enum):
    """How false certificates are kept below 1 − confidence over the whole family."""

    auto = "auto"  # holm where no end is the safest, or where another constraint pulls from the other end
    fixed_sequence = "fixed_sequence"  # from the safe end, or in the order of `grid`; ends at the first that fails
    holm = "holm"  # all of them


#: Where `grid` is null: tenths, and the paper's sweep (Wachi et al. 2024, section 6).
GRIDS: dict[Over, list[float]] = {
    Over.merge_ratio: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    Over.beta: [0.01, 0.025, 0.05, 0.1],
}


NO_ZERO = (
    "`acceptable_score` must say from which score on a response is acceptable: {} has no zero. Try: acceptable_score=7"
)


@dataclass
class ChooseConfig(RunConfig):
    threshold: float = MISSING
    constraint: str = MISSING
    thresholds: dict[str, float] = field(default_factory=dict)
    maximise: str = MISSING
    confidence: float = MISSING
    over: Over = MISSING
    grid: list[Any] | None = None
    measure: MeasureKind = MISSING
    acceptable_score: float | None = None
    cost_bounds: list[float] | None = None
    worst_category: bool = MISSING
    max_over_refusal: float | None = bounded(above=0, below=1, default=None)
    procedure: Procedure = MISSING
    split: bool = MISSING
    max_missing: float = bounded(least=0, most=1)
    margin: float = MISSING
    power: float = bounded(above=0, below=1)

    @property
    def level(self) -> float:
        """Greatest chance of certifying a policy that breaks a constraint."""
        return 1 - self.confidence

    @property
    def limits(self) -> dict[str, float]:
        """Thresholds of all constraints by criterion, that of `constraint` first."""
        return {self.constraint: self.threshold} | self.thresholds

    @property
    def last_criterion(self) -> str | None:
        """What the last stage is for."""
        return list(aligned_stages(self))[-1] if aligned_stages(self) else None

    @property
    def family(self) -> list[Any]:
        """What `grid` says, or its default."""
        return list(GRIDS.get(self.over, [])) if self.grid is None else list(self.grid)

    @property
    def is_sequence(self) -> bool:
        """Whether policies are tested one after the other."""
        if self.procedure == Procedure.auto:
            has_safe_end = len(self.limits) == 1 or self.last_criterion not in self.limits
            return self.over != Over.policies and self.max_over_refusal is None and has_safe_end
        return self.procedure == Procedure.fixed_sequence

    @property
    def scale(self) -> tuple[float, float]:
        """Least and greatest value of what the threshold is about."""
        low, high = self.cost_bounds if self.measure == MeasureKind.mean_cost and self.cost_bounds else (0.0, 1.0)
        return low, high


def find_choice_problems(config: ChooseConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Everything wrong with what is asked of a family of policies."""
    if not 0 < config.confidence < 1:
        yield (
            f"`confidence` must lie between 0 and 1, but is {config.confidence:g}: no number of prompts makes certain. "
            "Try: confidence=0.95"
        )
    yield from _check_criteria(config)
    yield from _check_measure(config)
    yield from _check_family(config)
    if config.policies != "final":
        yield "`policies` has no effect: `over` and `grid` say which policies are meant."
    is_merged, is_beta = config.over != Over.beta, config.over != Over.merge_ratio
    for key, is_idle in (("merge_ratio", is_merged), ("merge_weights", is_merged), ("beta", is_beta)):
        if is_idle and any(text.lstrip("+").startswith(f"{key}=") for text in overrides):
            yield f"`{key}` has no effect: over={config.over.value} says which policies are meant. Try: grid=[...]"


def _check_criteria(config: ChooseConfig) -> Iterator[str]:
    if config.constraint in config.thresholds:
        yield f"`thresholds` must name other criteria than `constraint` = {config.constraint}. Try: threshold=..."
    if config.over == Over.policies:
        return  # what they were judged by stands in the store
    named = {"constraint": [config.constraint], "thresholds": config.thresholds, "maximise": [config.maximise]}
    for key, name in ((key, name) for key, names in named.items() for name in names if name not in config.evaluated):
        known, hint = ", ".join(config.evaluated), ",".join([*config.evaluated, name])
        yield f"`{key}` must name criteria that are judged ({known}), but has {name}. Try: evaluated=[{hint}]"


def _check_measure(config: ChooseConfig) -> Iterator[str]:
    if config.measure == MeasureKind.mean_cost:
        bounds = config.cost_bounds
        if bounds is None or len(bounds) != 2 or not all(map(math.isfinite, bounds)) or not bounds[0] < bounds[1]:
            said = "null" if bounds is None else bounds
            yield f"`cost_bounds` must be the least and greatest possible cost, but is {said}. Try: cost_bounds=[-5,5]"
            return
    elif config.cost_bounds is not None:
        yield f"`cost_bounds` has no effect: measure={config.measure.value} does not read it. Try: measure=mean_cost"
    is_rate = config.measure == MeasureKind.acceptable_rate
    if config.acceptable_score is not None and not is_rate:
        yield (
            f"`acceptable_score` has no effect: measure={config.measure.value} does not read it. "
            "Try: measure=acceptable_rate"
        )
    if is_rate and config.acceptable_score is None and isinstance(config.judge, OpenAIJudgeConfig):
        yield NO_ZERO.format(f"judge={config.judge.name}")
    low, high = config.scale
    for name, threshold in config.limits.items():
        if not low < threshold < high:
            key = f"thresholds.{name}" if name in config.thresholds else "threshold"
            scale = f"the scale of measure={config.measure.value}"
            yield f"`{key}` must lie between {low:g} and {high:g}, {scale}, but is {threshold:g}."
    if not 0 < config.margin < high - low:
        yield f"`margin` must be greater than 0 and less than {high - low:g}, but is {config.margin:g}."


def _check_family(config: ChooseConfig) -> Iterator[str]:
    family = config.family
    if len(family) < 2:
        hint = "grid=[0.25,0.5,0.75,1]" if config.over == Over.merge_ratio else "grid=[A,B]"
        yield f"`grid` must have at least two entries to choose among, but has {len(family)}. Try: {hint}"
        return
    if config.over == Over.policies:
        for name in sorted({str(name) for name in family if family.count(name) > 1}):
            yield f"`grid` must name every policy once, but has {name} several times."
        return
    wrong = [entry for entry in family if isinstance(entry, bool) or not isinstance(entry, int | float)]
    if wrong:
        yield f"`grid` must hold numbers with over={config.over.value}, but has {wrong[0]}."
        return
    if any(later <= earlier for earlier, later in itertools.pairwise(family)):
        ordered = ",".join(f"{entry:g}" for entry in sorted(set(family)))
        yield f"`grid` must go upwards, each value once: the order of the tests is fixed by it. Try: grid=[{ordered}]"
    if config.over == Over.merge_ratio:
        if (stages := len(aligned_stages(config))) != 2:
            hint = "over=beta" if stages > 1 else "order=helpful_first"
            yield f"`over=merge_ratio` needs two stages, but the chosen order has {stages or 'none'}. Try: {hint}"
        wrong = [entry for entry in family if not 0 <= entry <= 1]
        if wrong:
            yield f"`grid` must lie between 0 and 1 with over=merge_ratio, but has {wrong[0]:g}."
    elif not aligned_stages(config):
        yield "`over=beta` needs a stage that has one, but the chosen order has none. Try: order=helpful_first"
    elif any(not (math.isfinite(entry) and entry > 0) for entry in family):
        yield f"`grid` must hold numbers greater than 0 with over=beta, but has {min(family):g}."
