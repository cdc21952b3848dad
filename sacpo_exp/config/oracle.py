"""Settings of the oracle: a world with a known optimum, and the runs that are compared with it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count, seed_value
from sacpo_exp.config.schema import PathsConfig
from sacpo_exp.config.tracking import TrackerConfig
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY
from sacpo_exp.method.losses import View, trained_losses

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
    for override in list_overrides(config.train):
        key = override.partition("=")[0]
        parts = key.partition("@")[0].split(".")
        if parts[0] in OWN_KEYS or (parts[0] == "stages" and parts[2:3] and parts[2] in OWN_STAGE_KEYS):
            yield f"`train.{key}` can't be set: the oracle sets it itself, by keys of its own. Try: --cfg job"
        elif parts[0] == "stages" and (len(parts) < 3 or parts[1] not in ("sft", *config.criteria)):
            yield f"`train.{key}` must be a key of one of the stages sft, {names}."


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
