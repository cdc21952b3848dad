"""A policy and all that it descends from, as one value that manifests store and reports read back.

    Policy = Base | Aligned(parent, stage) | Merged(policies, weights)

Names, columns of tables and trackers, and which policies are alike are derived from this value and from nothing else.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sacpo_exp.method.losses import CHANGING, LOSSES


@dataclass(frozen=True)
class Stage:
    """One alignment phase, or supervised fine-tuning, which has no criterion.

    Attributes:
        recipe: everything that determines it but its parent and its data: `criterion`, `loss`, `beta`, `seed`, …
        data: everything that determines its data but the tokenizer.
        letter: of the criterion, for names.
        dataset: name of the data.
        adapter: short name of a low-rank adapter; empty if all weights are trained.
    """

    recipe: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    letter: str = ""
    dataset: str = ""
    adapter: str = ""

    @property
    def criterion(self) -> str | None:
        return self.recipe.get("criterion")

    @property
    def loss(self) -> str:
        """Name of a row of `LOSSES`."""
        return str(self.recipe["loss"]["name"])

    @property
    def beta(self) -> float | None:
        """KL strength; None for supervised fine-tuning."""
        return self.recipe.get("beta")

    @property
    def title(self) -> str:
        """`DPO(H)`, `SFT`."""
        name = LOSSES[self.loss].title if self.loss in LOSSES else self.loss
        if self.criterion:
            name += f"({self.letter})"
        return f"{name} from base" if self.recipe.get("start") else name

    @property
    def changed_settings(self) -> dict[str, float | str]:
        """Settings of its loss that are not the loss's defaults."""
        own, defaults = self.settings, LOSSES[self.loss].settings if self.loss in LOSSES else {}
        return {name: own[name] for name, value in defaults.items() if own.get(name, value) != value}

    @property
    def settings(self) -> dict[str, float]:
        """All settings of its loss that have a value."""
        return {name: value for name, value in self.recipe["loss"].items() if name != "name" and value is not None}

    @property
    def is_joint(self) -> bool:
        """Whether it learns from labels for several criteria at once."""
        return self.loss in LOSSES and (LOSSES[self.loss].reads_flags or LOSSES[self.loss].reads_guides)

    @property
    def is_consistent(self) -> bool:
        """Whether its loss has the KL-regularised optimum as minimiser, as Theorem 1 needs."""
        is_changed = not CHANGING.isdisjoint(self.recipe.get("trainer", {}))
        return self.loss in LOSSES and LOSSES[self.loss].is_consistent and not is_changed


@dataclass(frozen=True)
class Policy(ABC):
    """What the three kinds of policies have in common; `id` is that of the artifact that holds the weights."""

    id: str

    @property
    def parents(self) -> tuple["Policy", ...]:
        """Policies that this one is made from."""
        return ()

    @property
    @abstractmethod
    def family(self) -> str:
        """The name without β and weights. Figures join the policies of one family by a line."""

    @property
    def numbers(self) -> dict[str, float | str]:
        """By its symbol, what tells the policies of a family apart: β, and settings of the last loss."""
        return {} if self.beta is None else {"β": self.beta, **self.aligned[-1].changed_settings}

    @property
    def name(self) -> str:
        """The family with its numbers: `DPO(H)→DPO(S) β=0.05`."""
        return " ".join(filter(None, [self.family, write_numbers(self.numbers)]))

    @property
    def ancestors(self) -> tuple["Policy", ...]:
        """All policies that it descends from, oldest first, each once."""
        found: dict[str, Policy] = {}
        for parent in self.parents:
            found |= {policy.id: policy for policy in (*parent.ancestors, parent)}
        return tuple(found.values())

    @property
    def base(self) -> "Base":
        """The model that training began with."""
        oldest = (*self.ancestors, self)[0]
        assert isinstance(oldest, Base)
        return oldest

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that made it, in order; of a merge those of all its policies, each once."""
        return tuple(policy.stage for policy in (*self.ancestors, self) if isinstance(policy, Aligned))

    @property
    def aligned(self) -> tuple[Stage, ...]:
        """Stages that have a criterion."""
        return tuple(stage for stage in self.stages if stage.criterion)

    @property
    def criteria(self) -> tuple[str, ...]:
        """Criteria in the order of their stages."""
        return tuple(stage.criterion for stage in self.aligned if stage.criterion)

    @property
    def order(self) -> str:
        """The criteria as one word: `helpfulness_then_safety`; `none` without stages, `naive` for naive merges."""
        return "_then_".join(self.criteria) or "none"

    @property
    def objective(self) -> str:
        """The losses, as options of `objective` are called: `dpo`, `dpo_then_kto`; empty without a criterion."""
        losses = [stage.loss for stage in self.aligned]
        return "_then_".join(losses if len(set(losses)) > 1 else losses[:1])

    @property
    def betas(self) -> tuple[float, ...]:
        """KL strengths of the stages that have a criterion, in order."""
        return tuple(stage.beta for stage in self.aligned if stage.beta is not None)

    @property
    def beta(self) -> float | None:
        """KL strength of the last stage."""
        return self.betas[-1] if self.betas else None

    @property
    def weights(self) -> tuple[float, ...]:
        """Of a merge; empty for others."""
        return ()

    @property
    def merge_ratio(self) -> float | None:
        """q, the weight of the later one of two merged policies; None for others."""
        return self.weights[1] if len(self.weights) == 2 else None

    @property
    def seed(self) -> int | None:
        """Of the last stage; None for a model as it came."""
        return self.stages[-1].recipe.get("seed") if self.stages else None

    @property
    def dataset(self) -> str | None:
        """Name of the last stage's data."""
        return self.stages[-1].dataset if self.stages else None

    @property
    def rank(self) -> int:
        """Place in tables: number of stages with a criterion; merges come after all others."""
        return MERGED_RANK if self.weights else len(self.aligned)

    @property
    def columns(self) -> dict[str, Any]:
        """Flat columns for tables and trackers."""
        last = self.aligned[-1] if self.aligned else None
        return {
            "policy": self.name,
            "family": self.family,
            "order": self.order,
            "objective": self.objective or None,
            "criterion": last.criterion if last else None,
            "loss": last.loss if last else None,
            "beta": self.beta,
            "beta_first": self.betas[0] if len(self.betas) > 1 else None,
            "merge_ratio": self.merge_ratio,
            "seed": self.seed,
            "learning_rate": last.recipe.get("learning_rate") if last else None,
            "model": self.base.model,
            "dataset": self.dataset,
        }

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for manifests, which `read_policy` reads."""

    def hash_without(self, *keys: str) -> str:
        """A hash that is equal for policies whose lineages differ in nothing but these keys of recipes, as `seed`."""
        text = json.dumps(_strip(self.to_dict(), {"id", *NAMES, *keys}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


#: Merges come after stages, however many there are.
MERGED_RANK = 99
#: Fields that are for people and don't determine a policy.
NAMES = ("model", "letter", "dataset")


@dataclass(frozen=True)
class Base(Policy):
    """A model as it came, or responses that were made elsewhere.

    Attributes:
        model: its name.
        recipe: everything that determines it.
    """

    model: str
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        return self.model

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "base", **asdict(self)}


@dataclass(frozen=True)
class Aligned(Policy):
    """What one stage made of its parent, which is the stage's reference policy and mostly its starting point.

    Attributes:
        guides: policies whose implicit rewards the stage's labels come from.
    """

    parent: Policy
    stage: Stage
    guides: tuple[Policy, ...] = ()

    @property
    def parents(self) -> tuple[Policy, ...]:
        return (self.parent, *self.guides)

    @property
    def family(self) -> str:
        line = [*self.parent.aligned, self.stage] if self.stage.criterion else [self.stage]
        return " ".join(filter(None, [self.stage.adapter, "→".join(stage.title for stage in line)]))

    def to_dict(self) -> dict[str, Any]:
        values = {"kind": "aligned", "id": self.id, "parent": self.parent.to_dict(), "stage": asdict(self.stage)}
        return values | ({"guides": [guide.to_dict() for guide in self.guides]} if self.guides else {})


@dataclass(frozen=True)
class Merged(Policy):
    """A weighted average of the weights of policies of one shape.

    Attributes:
        policies: the averaged policies, earlier ones first.
        mix: their weights, which sum to 1.
    """

    policies: tuple[Policy, ...]
    mix: tuple[float, ...]

    @property
    def parents(self) -> tuple[Policy, ...]:
        return self.policies

    @property
    def weights(self) -> tuple[float, ...]:
        return self.mix

    @property
    def is_naive(self) -> bool:
        """Whether the policies were trained side by side (naive merging); else each descends from the one before it."""
        later = zip(self.policies, self.policies[1:], strict=False)
        return not all(earlier.id in {each.id for each in policy.ancestors} for earlier, policy in later)

    @property
    def order(self) -> str:
        return "naive" if self.is_naive else super().order

    @property
    def family(self) -> str:
        if self.is_naive:
            return f"naive {'+'.join(policy.family for policy in self.policies)}"
        return f"P-SACPO {self.policies[-1].family}"

    @property
    def numbers(self) -> dict[str, float | str]:
        if self.merge_ratio is not None:
            return {"q": self.merge_ratio}
        return {"weights": "/".join(map(write, self.mix))}

    def to_dict(self) -> dict[str, Any]:
        policies = [policy.to_dict() for policy in self.policies]
        return {"kind": "merged", "id": self.id, "policies": policies, "mix": list(self.mix)}


def read_policy(value: dict[str, Any]) -> Policy:
    """Return the policy that `to_dict` wrote.

    Raises:
        ValueError: it is of no known kind, or fields are missing.
    """
    try:
        if value["kind"] == "base":
            return Base(value["id"], value["model"], value["recipe"])
        if value["kind"] == "aligned":
            guides = tuple(map(read_policy, value.get("guides", ())))
            return Aligned(value["id"], read_policy(value["parent"]), Stage(**value["stage"]), guides)
        if value["kind"] == "merged":
            return Merged(value["id"], tuple(map(read_policy, value["policies"])), tuple(value["mix"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not a policy: {error} is missing or unknown") from error
    raise ValueError(f"a policy must be base, aligned or merged, but is {value['kind']!r}")


def write(value: float | str) -> str:
    """A number as short as possible."""
    return value if isinstance(value, str) else f"{value:g}"


def write_numbers(numbers: Mapping[str, float | str]) -> str:
    """Numbers with their symbols: `β=0.1 delta=2`."""
    return " ".join(f"{symbol}={write(value)}" for symbol, value in numbers.items())


def _strip(value: Any, keys: set[str]) -> Any:
    """The value without these keys of its dictionaries, at any depth."""
    if isinstance(value, dict):
        return {name: _strip(entry, keys) for name, entry in value.items() if name not in keys}
    if isinstance(value, list | tuple):
        return [_strip(entry, keys) for entry in value]
    return value
