"""Settings of `choose`, `multiplier` and `oracle`, and the rules that they must follow. Defaults are in conf/."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count, seed_value
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.schema import JudgeKind, MergeMethod, PathsConfig, RunConfig, TrackerConfig
from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY
from sacpo_exp.method.losses import View, trained_losses


class Over(Enum):
    """What distinguishes the policies of a family."""

    merge_ratio = "merge_ratio"  # of the plan, merged on demand
    beta = "beta"  # of the plan's last stage, trained before


class MeasureKind(Enum):
    """What thresholds are about, on the prompts that count for their criterion."""

    win_rate = "win_rate"  # against the baseline, ties as half
    acceptable_rate = "acceptable_rate"  # share with a score of at least `acceptable_score`; with cost ≤ 0 if null


class Procedure(Enum):
    """Multiple testing procedure; the chance of any false certificate stays below 1 − confidence."""

    auto = "auto"  # holm where constraints pull from both ends
    fixed_sequence = "fixed_sequence"  # from the safe end; ends at the first that fails
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
        return list(GRIDS[self.over] if self.grid is None else self.grid)

    @property
    def is_sequence(self) -> bool:
        """Whether policies are tested one after the other."""
        if self.procedure == Procedure.auto:
            has_safe_end = len(self.limits) == 1 or self.last_criterion not in self.limits
            return self.max_over_refusal is None and has_safe_end
        return self.procedure == Procedure.fixed_sequence


def find_choice_problems(config: ChooseConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each mistake in the settings of a choice."""
    if config.constraint in config.thresholds:
        yield f"`thresholds` must name other criteria than `constraint` = {config.constraint}. Try: threshold=..."
    for name, threshold in config.thresholds.items():
        if not 0 < threshold < 1:
            yield f"`thresholds.{name}` must lie between 0 and 1, but is {threshold:g}."
    for name in {*config.limits, config.maximise} - {*config.evaluated}:
        known, hint = ", ".join(config.evaluated), ",".join([*config.evaluated, name])
        yield f"choose needs criteria that are judged ({known}), but {name} is not. Try: evaluated=[{hint}]"
    is_rate, score = config.measure == MeasureKind.acceptable_rate, config.acceptable_score
    if score is not None and not is_rate:
        yield "`acceptable_score` has no effect with measure=win_rate. Try: measure=acceptable_rate"
    if score is None and is_rate and isinstance(config.judge, OpenAIJudgeConfig):
        yield NO_ZERO.format(f"judge={config.judge.name}")
    if config.judge.kind == JudgeKind.none:
        yield "choose needs a judge, but judge=none judges nothing. Try: judge=scorer"
    yield from _check_grid(config)
    idle = {"policies", *({"beta"} if config.over == Over.beta else {"merge_ratio", "merge_weights"})}
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


@dataclass
class MultiplierConfig(RunConfig):
    threshold: float = MISSING
    constraint: str = MISSING
    samples: int = count(2)
    confidence: float = bounded(above=0, below=1)
    bootstrap_rounds: int = bounded(least=100, most=1_000_000)

    @property
    def reward(self) -> str:
        """The criterion that is not the constraint."""
        return next(name for name in aligned_stages(self) if name != self.constraint)


def find_multiplier_problems(config: MultiplierConfig) -> Iterator[str]:
    """Yield a sentence for each mistake in the settings of `multiplier`."""
    names = list(aligned_stages(config))
    if len(names) != 2 or config.merge != MergeMethod.naive:
        yield "multiplier needs two criteria, each with a policy of its own. Try: order=helpful_first merge=naive"
    elif config.constraint not in names:
        yield f"`constraint` must be one of the stages' criteria ({', '.join(names)}), but is {config.constraint}."


#: Ending of an entry of `losses` whose stages read labelled responses, whatever their loss reads by default.
ON_LABELS = "/labels"
#: Keys of `train` that the oracle sets itself, with everything below them, and those of its stages.
OWN_KEYS = (
    *("seed", "beta", "earlier_betas", "merge", "merge_ratio", "merge_weights", "order", "criterion", "objective"),
    *("losses", "base", "dataset", "paths", "tracker"),
)
OWN_STAGE_KEYS = ("beta", "criterion", "dataset", "loss", "num_train_epochs")


@dataclass
class WorldConfig:
    """Size and shape of a world, see `sacpo_exp.studies.oracle.world.make_world`."""

    prompts: int = count()
    responses: int = count(3)  # the correlation of two is always 1 or -1
    scale: float = bounded(above=0)  # standard deviation of each criterion over the responses of a prompt
    correlation: float = bounded(above=-1, below=1)  # of the reward and each constraint
    spread: float = bounded(above=0)  # standard deviation of the reference policy's logits
    seed: int = seed_value()


@dataclass
class OracleConfig:
    """A world, and the runs of `train` that are compared with its optimum, each for every one of `seeds`.

    Every loss and order is trained with every number of `pairs` at `multiplier`, and merged at all `ratios` with the
    largest number; so is the first loss with every one of `multipliers` for the first constraint. Every method is
    trained with every number of `pairs` on rows that are labelled for both criteria.
    """

    world: WorldConfig = MISSING
    beta: float = bounded(above=0)
    criteria: list[str] = MISSING  # the reward, then the constraints
    multiplier: list[float] = bounded(above=0)  # noqa: RUF009  a field; λ of each constraint
    multipliers: list[float] = bounded(above=0)  # noqa: RUF009  further λ of the first constraint
    ratios: list[float] = bounded(above=0, most=1)  # noqa: RUF009  q
    orders: list[list[str]] = MISSING
    losses: list[str] = MISSING  # of stages by position, as dpo_then_kto; dpo/labels reads labelled responses
    methods: list[str] = MISSING  # files of conf/experiment/design, each with overrides of `train` after a blank
    pairs: list[int] = count()  # noqa: RUF009  rows of a stage: pairs for DPO, labelled responses for KTO
    samples: int = count()  # of the reference policy, which the base stage learns it from
    updates: int = count()  # of a stage at least; every row is read at least once
    threshold: float | None = None  # of the first constraint's E[g]
    seeds: list[int] = seed_value()  # noqa: RUF009  of data and training
    train: dict[str, Any] = MISSING  # keys and groups of `train` that all runs share
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    paths: PathsConfig = MISSING


def find_oracle_problems(config: OracleConfig) -> Iterator[str]:
    """Yield everything wrong with a composed `oracle` configuration, except a threshold that the world can't meet."""
    names, count = ", ".join(config.criteria), len(config.criteria)
    if count < 2 or len(set(config.criteria)) < count:
        yield f"`criteria` must be the reward and at least one constraint, each once, but is [{names}]."
    elif len(config.multiplier) != count - 1:
        wanted = ", ".join(config.criteria[1:])
        yield f"`multiplier` must have one value per constraint ({wanted}), but has {len(config.multiplier)}."
    if 3 <= config.world.responses <= count:  # more criteria can't have the correlations that `make_world` gives them
        yield f"`world.responses` must be at least {count + 1} for {count} criteria, but is {config.world.responses}."
    if config.ratios and count > 2:
        yield f"`ratios` are for merges of two policies, but {count} criteria make {count}. Try: ratios=[]"
    for number, order in enumerate(config.orders if len(set(config.criteria)) == count > 1 else []):
        if sorted(order) != sorted(config.criteria):
            yield f"`orders[{number}]` must name each of `criteria` ({names}) once, but is [{', '.join(order)}]."
    for key in ("orders", "pairs", "seeds"):
        if not getattr(config, key):
            yield f"`{key}` must name at least one, but is empty."
    if not config.losses and not config.methods:
        yield "`losses` or `methods` must name at least one, but both are empty."
    if config.methods and config.criteria != [HELPFULNESS, SAFETY]:
        yield f"`methods` are for criteria=[{HELPFULNESS},{SAFETY}], but there are [{names}]. Try: methods=[]"
    for name in (name for entry in config.losses for name in read_losses(entry)[0] if name not in trained_losses()):
        yield f"`losses` must be of {', '.join(trained_losses())}, but has {name}."
    stages = config.train.get("stages", {})
    for key in {*config.train} & {*OWN_KEYS}:
        yield f"`train.{key}` can't be set: the oracle sets it itself, by keys of its own. Try: --cfg job"
    for name in {*stages} - {"sft", *config.criteria}:
        yield f"`train.stages.{name}` must be one of the stages sft, {names}."
    for key in (f"{name}.{key}" for name in stages for key in {*stages[name]} & {*OWN_STAGE_KEYS}):
        yield f"`train.stages.{key}` can't be set: the oracle sets it itself. Try: --cfg job"


def read_losses(entry: str) -> tuple[list[str], View | None]:
    """Return the losses of an entry of `losses`, by position, and the form of its rows; None: that of each loss."""
    names = entry.removesuffix(ON_LABELS)
    return names.split("_then_"), View.labels if names != entry else None


def list_overrides(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield `key=value` for every value in a nested mapping."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from list_overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={'null' if value is None else value}"
