"""Evaluated policies, and groups of them that may be compared with one another."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Policy, read_policy, write
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.choices import StoredChoice
from sacpo_exp.statistics.win_rate import Record

#: What tells policies of one family, β and q apart, by column of the policy.
TELLING = {"beta_first": "first β", "seed": "seed"}


@dataclass(frozen=True)
class Evaluation:
    """One policy judged against one opponent, mostly the baseline.

    Attributes:
        labels: of its judgments; of the baseline `dataset`, `beta`, `merge_ratio` and `seed` may be missing.
        records: lines of `verdicts.jsonl`, one per prompt.
        kl: by prompt id nats per response, the mean of its samples; empty where no divergence is stored.
        metrics: of the judgments: of a judge that costs money its price.
        tag: what tells it from another policy of the group with the same family, β and q; mostly empty.
    """

    labels: dict[str, Any]
    records: list[Record]
    kl: dict[str, float]
    created: str
    metrics: dict[str, Any] = field(default_factory=dict)
    tag: str = ""

    @property
    def id(self) -> str:
        """Artifact id of the policy."""
        return str(self.labels["policy_id"])

    @property
    def opponent_id(self) -> str:
        """Artifact id of the policy that it met."""
        return str(self.labels["opponent_id"])

    @property
    def is_baseline(self) -> bool:
        return bool(self.labels["policy_id"] == self.labels["baseline_id"])

    @cached_property
    def policy(self) -> Policy:
        """The judged policy with its lineage."""
        return read_policy(self.labels[LINEAGE])

    @cached_property
    def criteria(self) -> tuple[Criterion, ...]:
        """What it was judged by."""
        return tuple(Criterion(**entry) for entry in self.labels["criteria"])

    @property
    def beta(self) -> float | None:
        """KL strength of its last stage; None for the baseline."""
        return None if self.is_baseline else self.policy.beta

    @property
    def merge_ratio(self) -> float | None:
        """q of a merge of two policies, else None."""
        return self.policy.merge_ratio

    @property
    def name(self) -> str:
        """What it is called where its β and q stand beside it."""
        return (f"{self.policy.name} (baseline)" if self.is_baseline else self.policy.family) + self.tag

    @property
    def title(self) -> str:
        """What it is called on its own."""
        numbers = {} if self.is_baseline else self.policy.numbers
        betas = {"β": self.beta} if self.policy.weights and self.beta is not None else {}
        return " ".join([self.name, *(f"{symbol}={write(value)}" for symbol, value in (betas | numbers).items())])


@dataclass(frozen=True)
class Group:
    """Policies with the same judge, criteria, prompts, baseline and answers of the baseline: only these are compared.

    Attributes:
        policies: against the baseline; baseline first, then first stages, second stages and merges, each by family, β
            and q.
        meetings: of policies with one another (`matches=all_pairs`).
        parents: policy id → ids of its nearest ancestors that are evaluated too; for a merged policy both sides.
        judge_metrics: criterion → held-out accuracy of the judge and of two baselines; empty if not stored.
        answers: hash of the baseline's answers, which tells apart evaluations with other generation settings.
        choices: of one of its policies for a safety threshold, the oldest first.
    """

    policies: tuple[Evaluation, ...]
    meetings: tuple[Evaluation, ...]
    parents: dict[str, tuple[str, ...]]
    judge_metrics: dict[str, dict[str, Any]]
    answers: str
    choices: tuple[StoredChoice, ...] = ()

    @property
    def heading(self) -> str:
        """Model, data sets, judge and prompts."""
        labels = self.policies[0].labels
        names = [
            self._names("model"),
            self._names("dataset"),
            f"judge {labels['judge']}",
            f"prompts {labels['prompts']}",
        ]
        return " · ".join(filter(None, names))

    @property
    def provenance(self) -> str:
        """What all policies of the group share, by id."""
        labels = self.policies[0].labels
        return (
            f"baseline {labels['baseline_id']}, its answers {self.answers[:8]}, judge {labels['judge_id']}, "
            f"prompts {labels['prompts_id'][:8]}"
        )

    @property
    def baseline_id(self) -> str:
        return str(self.policies[0].labels["baseline_id"])

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """What all of its policies were judged by."""
        return self.policies[0].criteria

    @property
    def has_zero(self) -> tuple[str, ...]:
        """Names of criteria for which the judge's score of 0 parts acceptable responses from others (cost ≤ 0)."""
        names = self.policies[0].labels["has_zero"]
        return tuple(each.name for each in self.criteria if each.name in names)

    def find(self, policy_id: str) -> Evaluation:
        """The policy with this id; one of `parents`."""
        return next(policy for policy in self.policies if policy.id == policy_id)

    def _names(self, key: str) -> str:
        return " + ".join(sorted({str(policy.labels[key]) for policy in self.policies if policy.labels.get(key)}))


def make_group(matches: list[Evaluation], judge_metrics: dict[str, Any], answers: str) -> Group:
    """A group in order. Of a match judged twice against the same answers of the baseline the newer one counts."""
    ordered = sorted(matches, key=lambda match: match.created)
    newest = {(match.id, match.opponent_id): match for match in ordered}.values()
    policies = {match.id: match for match in newest if match.opponent_id == match.labels["baseline_id"]}
    meetings = sorted(
        (match for match in newest if match.id in policies and match is not policies[match.id]), key=_order
    )
    parents = {match.id: find_evaluated_ancestors(match.policy, policies.keys()) for match in policies.values()}
    tagged = arrange_policies(policies.values())
    # Responses made elsewhere have no known ancestors: each policy is compared with those before it.
    alone = (match for match in tagged if not match.policy.parents and not match.is_baseline)
    strangers = [match.id for match in alone if "imported" in match.policy.base.recipe]
    parents |= {policy_id: tuple(strangers[:place]) for place, policy_id in enumerate(strangers)}
    return Group(tagged, tuple(meetings), parents, judge_metrics, answers)


def find_evaluated_ancestors(policy: Policy, evaluated: AbstractSet[str]) -> tuple[str, ...]:
    """Ids of the nearest evaluated policies on each line of descent."""
    found: dict[str, None] = {}
    for parent in policy.parents:
        nearest = (parent.id,) if parent.id in evaluated else find_evaluated_ancestors(parent, evaluated)
        found |= dict.fromkeys(nearest)
    return tuple(found)


def _order(match: Evaluation) -> tuple[Any, ...]:
    told = (match.beta, match.merge_ratio, *(match.labels.get(key) for key in TELLING))
    numbers = [-1 if value is None else value for value in told]
    rank = 0 if match.is_baseline else max(1, match.policy.rank)
    return (rank, match.policy.family, *numbers, match.id)


def arrange_policies(policies: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
    """In the order of tables: baseline, first stages, second stages, merges; no two with the same title."""
    return tuple(_tag_namesakes(sorted(policies, key=_order)))


def _tag_namesakes(policies: list[Evaluation]) -> list[Evaluation]:
    """Give policies that would have the same title what tells them apart: the first stage's β, the seed, or a hash."""
    tagged = []
    for policy in policies:
        namesakes = [other for other in policies if other.title == policy.title]
        keys = [key for key in TELLING if len({other.labels.get(key) for other in namesakes}) > 1]
        if len({tuple(other.labels.get(key) for key in keys) for other in namesakes}) == len(namesakes):
            tag = "".join(f" {TELLING[key]}={_spell(policy.labels.get(key))}" for key in keys)
        else:
            tag = f" #{policy.id.rsplit('-', 1)[-1][:4]}"
        tagged.append(replace(policy, tag=tag))
    return tagged


def _spell(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
