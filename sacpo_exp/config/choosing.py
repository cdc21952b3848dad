"""Settings of `choose` and the rules that they must follow. Defaults are in conf/choose.yaml."""

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
    """What distinguishes the policies of a family."""

    merge_ratio = "merge_ratio"  # of the plan, merged on demand
    beta = "beta"  # of the plan's last stage, trained before
    policies = "policies"  # any judged policies, by id or title


class MeasureKind(Enum):
    """What thresholds are about, on the prompts that count for their criterion."""

    win_rate = "win_rate"  # against the baseline, ties as half
    acceptable_rate = "acceptable_rate"  # share with a score of at least `acceptable_score`; with cost ≤ 0 if null


class Procedure(Enum):
    """Multiple testing procedure; the chance of any false certificate stays below 1 − confidence."""

    auto = "auto"  # holm where no end is the safest, or where constraints pull from both ends
    fixed_sequence = "fixed_sequence"  # from the safe end, or in the order of `grid`; ends at the first that fails
    holm = "holm"  # all of them


#: Where `grid` is null: tenths, and the paper's sweep (Wachi et al. 2024, section 6).
GRIDS: dict[Over, list[float]] = {
    Over.merge_ratio: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    Over.beta: [0.01, 0.025, 0.05, 0.1],
}

NO_ZERO = (
    "`acceptable_score` must say from which score a response is acceptable: {} has no zero. Try: acceptable_score=7"
)


@dataclass
class ChooseConfig(RunConfig):
    threshold: float = bounded(above=0, below=1)
    constraint: str = MISSING
    thresholds: dict[str, float] = field(default_factory=dict)
    maximise: str = MISSING
    confidence: float = bounded(above=0, below=1)
    over: Over = MISSING
    grid: list[Any] | None = None
    measure: MeasureKind = MISSING
    acceptable_score: float | None = None
    max_over_refusal: float | None = bounded(above=0, below=1, default=None)
    procedure: Procedure = MISSING
    max_missing: float = bounded(least=0, most=1)
    margin: float = bounded(above=0, below=1)
    power: float = bounded(above=0, below=1)

    @property
    def level(self) -> float:
        """Largest chance of certifying a policy that breaks a constraint."""
        return 1 - self.confidence

    @property
    def limits(self) -> dict[str, float]:
        """Thresholds of all constraints by criterion, that of `constraint` first."""
        return {self.constraint: self.threshold} | self.thresholds

    @property
    def last_criterion(self) -> str | None:
        """Criterion of the last stage."""
        return list(aligned_stages(self))[-1] if aligned_stages(self) else None

    @property
    def family(self) -> list[Any]:
        """`grid`, or its default."""
        return list(GRIDS.get(self.over, [])) if self.grid is None else list(self.grid)

    @property
    def is_sequence(self) -> bool:
        """Whether policies are tested one after the other."""
        if self.procedure == Procedure.auto:
            has_safe_end = len(self.limits) == 1 or self.last_criterion not in self.limits
            return self.over != Over.policies and self.max_over_refusal is None and has_safe_end
        return self.procedure == Procedure.fixed_sequence


def find_choice_problems(config: ChooseConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each mistake in the settings of a choice."""
    if config.constraint in config.thresholds:
        yield f"`thresholds` must name other criteria than `constraint` = {config.constraint}. Try: threshold=..."
    for name, threshold in config.thresholds.items():
        if not 0 < threshold < 1:
            yield f"`thresholds.{name}` must lie between 0 and 1, but is {threshold:g}."
    for name in {*config.limits, config.maximise} - {*config.evaluated} if config.over != Over.policies else ():
        known, hint = ", ".join(config.evaluated), ",".join([*config.evaluated, name])
        yield f"choose needs criteria that are judged ({known}), but {name} is not. Try: evaluated=[{hint}]"
    is_rate, score = config.measure == MeasureKind.acceptable_rate, config.acceptable_score
    if score is not None and not is_rate:
        yield "`acceptable_score` has no effect with measure=win_rate. Try: measure=acceptable_rate"
    if score is None and is_rate and isinstance(config.judge, OpenAIJudgeConfig):
        yield NO_ZERO.format(f"judge={config.judge.name}")
    yield from _check_grid(config)
    idle = {"policies"} | ({"merge_ratio", "merge_weights"} if config.over != Over.beta else set())
    idle |= {"beta"} if config.over != Over.merge_ratio else set()
    for key in sorted(idle & {text.lstrip("+").partition("=")[0] for text in overrides}):
        yield f"`{key}` has no effect: over={config.over.value} selects the policies. Try: grid=[...]"


def _check_grid(config: ChooseConfig) -> Iterator[str]:
    family, stages, over = config.family, len(aligned_stages(config)), f"over={config.over.value}"
    is_ratio = config.over == Over.merge_ratio
    if len(family) < 2:
        hint = "grid=[0.25,0.5,0.75,1]" if is_ratio else "grid=[A,B]"
        yield f"`grid` must have at least two entries to choose from, but has {len(family)}. Try: {hint}"
    elif len(set(map(str, family))) < len(family):
        yield "`grid` must have every entry once."
    if config.over == Over.policies:
        return
    for entry in family:
        is_number = isinstance(entry, int | float) and not isinstance(entry, bool)
        if not is_number or not (0 <= entry <= 1 if is_ratio else 0 < entry < math.inf):
            limits = "between 0 and 1" if is_ratio else "greater than 0"
            yield f"`grid` must hold numbers {limits} with {over}, but has {entry}."
    if is_ratio and stages != 2:
        hint = "over=beta" if stages > 1 else "order=helpful_first"
        yield f"`{over}` needs two stages, but the chosen order has {stages or 'none'}. Try: {hint}"
    elif not stages:
        yield f"`{over}` needs a stage, but the chosen order has none. Try: order=helpful_first"
