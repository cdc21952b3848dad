"""From the store to groups of evaluated policies that may be compared with one another."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.evaluation.records import DIVERGENCE, VERDICTS, read_records
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Policy, read_policy, write_numbers
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.choices import SHARED, StoredChoice, collect_choices
from sacpo_exp.statistics.win_rate import Record
from sacpo_exp.store import Manifest, Store, hash_of

#: Columns of a policy that distinguish policies with the same family, β and q, with their names in titles.
TAGS = {"beta_first": "first β", "seed": "seed"}
Entry = tuple[Path, Manifest]


@dataclass(frozen=True)
class Evaluation:
    """One policy judged against one opponent, in most cases the baseline.

    Attributes:
        labels: of the judgments; for the baseline `dataset`, `beta`, `merge_ratio` and `seed` may be missing.
        records: lines of `verdicts.jsonl`, one per prompt.
        kl: by prompt id nats per response, the mean of its samples; empty if no divergence is stored.
        tag: distinguishes it from another policy of the group with the same family, β and q; in most cases empty.
    """

    labels: dict[str, Any]
    records: Sequence[Record]
    kl: dict[str, float]
    created: str
    tag: str = ""

    @property
    def id(self) -> str:
        return str(self.labels["policy_id"])

    @property
    def opponent_id(self) -> str:
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
        """The criteria that it was judged by."""
        return tuple(Criterion(**entry) for entry in self.labels["criteria"])

    @property
    def beta(self) -> float | None:
        """KL strength β of its last stage; None for the baseline."""
        return None if self.is_baseline else self.policy.beta

    @property
    def name(self) -> str:
        """Its name where β and q are in other columns."""
        if self.is_baseline:
            return f"{self.policy.name} (baseline){self.tag}"
        settings = {} if self.policy.weights or not self.policy.aligned else self.policy.aligned[-1].changed_settings
        return " ".join(filter(None, [self.policy.family, write_numbers(settings)])) + self.tag

    @property
    def title(self) -> str:
        """Its name with β and q."""
        if self.is_baseline:
            return self.name
        betas = {"β": self.beta} if self.policy.weights and self.beta is not None else {}
        return " ".join(filter(None, [self.policy.family + self.tag, write_numbers(betas | self.policy.numbers)]))


@dataclass(frozen=True)
class Group:
    """Policies with the same judge, criteria, prompts, baseline and responses of the baseline: only these are compared.

    Attributes:
        policies: against the baseline; the baseline first, then by number of stages, family, β and q.
        meetings: of policies with one another (`matches=all_pairs`).
        parents: policy id → ids of its nearest evaluated ancestors; for a merged policy both sides.
        judge_metrics: criterion → held-out accuracy of the judge and of two simple rules; empty if not stored.
        choices: of one of its policies for a threshold, the oldest first.
    """

    policies: tuple[Evaluation, ...]
    meetings: tuple[Evaluation, ...] = ()
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    judge_metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    choices: tuple[StoredChoice, ...] = ()

    @property
    def heading(self) -> str:
        """Model, data sets, judge and prompts."""
        labels = self.policies[0].labels
        names = [
            " + ".join(sorted({str(policy.labels[key]) for policy in self.policies if policy.labels.get(key)}))
            for key in ("model", "dataset")
        ]
        return " · ".join(filter(None, [*names, f"judge {labels['judge']}", f"prompts {labels['prompts']}"]))

    @property
    def provenance(self) -> str:
        """Ids that all policies of the group share."""
        labels = self.policies[0].labels
        return (
            f"baseline {labels['baseline_id']}, its answers {labels['answers'][:8]}, judge {labels['judge_id']}, "
            f"prompts {labels['prompts_id'][:8]}"
        )

    @property
    def baseline_id(self) -> str:
        return str(self.policies[0].labels["baseline_id"])

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria that all of its policies were judged by."""
        return self.policies[0].criteria

    @property
    def measures(self) -> dict[str, str]:
        """By criterion `reward` or `cost`, for those that such a model scored."""
        stored = [policy.labels.get("measures", {}) for policy in self.policies]
        return {name: kind for name, kind in stored[0].items() if all(name in other for other in stored)}

    @property
    def has_zero(self) -> tuple[str, ...]:
        """Names of criteria for which a score of 0 separates acceptable responses from others (cost ≤ 0)."""
        names = self.policies[0].labels["has_zero"]
        return tuple(each.name for each in self.criteria if each.name in names)


def collect_groups(store: Store, model: str | None, dataset: str | None) -> list[Group]:
    """Return everything evaluated with this model and dataset (None: with any), the newest group last.

    Raises:
        MissingArtifactError: nothing has been evaluated, or nothing with this model and dataset.
        StoreError: a file that is needed is damaged.
    """
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for folder, manifest in store.manifests():
        by_kind[manifest.kind].append((folder, manifest))
    outputs = store.root.parent
    hint = "Try: sacpo eval" + ("" if outputs == Path("outputs") else f" paths.outputs={outputs}")
    if not by_kind["judgments"]:
        raise MissingArtifactError(f"nothing has been evaluated in {store.root} yet. {hint}")
    matches: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for entry in _select(by_kind["judgments"], model, dataset):
        matches[_key(entry[1])].append(read_evaluation(store, entry, by_kind["divergence"]))
    metrics = {manifest.id: manifest.metrics for _, manifest in by_kind["scorer"]}
    choices = collect_choices(store)
    groups = [
        make_group(judged, metrics.get(key[0], {}), choices.get(key[: len(SHARED)], ()))
        for key, judged in matches.items()
    ]
    if not (groups := [group for group in groups if group.policies]):
        raise MissingArtifactError(f"no match in {store.root} was against a baseline. {hint}")
    return sorted(groups, key=lambda group: (max(p.created for p in group.policies), group.heading, group.provenance))


def _key(manifest: Manifest) -> tuple[str, ...]:
    """Return what policies have in common that are compared: the labels `SHARED` and the names of the criteria."""
    names = sorted(criterion["name"] for criterion in manifest.labels["criteria"])
    return (*(manifest.labels[key] for key in SHARED), *names)


def _select(entries: list[Entry], model: str | None, dataset: str | None) -> list[Entry]:
    """Return those of this model and dataset, and their baselines, which may have other labels."""

    def is_wanted(labels: Mapping[str, Any]) -> bool:
        return model in (None, labels["model"]) and dataset in (None, labels.get("dataset"))

    keys = {_key(manifest) for _, manifest in entries if is_wanted(manifest.labels)}
    if not keys:
        there = sorted({f"model={m.labels['model']} dataset={m.labels.get('dataset')}" for _, m in entries})
        asked = " ".join(f"{key}={value}" for key, value in (("model", model), ("dataset", dataset)) if value)
        raise MissingArtifactError(f"nothing has been evaluated with {asked}. There is: {'; '.join(there)}.")
    return [
        (folder, each)
        for folder, each in entries
        if is_wanted(each.labels) or (each.labels["policy_id"] == each.labels["baseline_id"] and _key(each) in keys)
    ]


def read_evaluation(store: Store, entry: Entry, divergences: list[Entry]) -> Evaluation:
    """Read one match, with the newest of the `divergences` of its policy."""
    folder, manifest = entry

    def find_pair(labels: Mapping[str, Any]) -> list[str]:
        return [hash_of(labels[key]) for key in ("policy_id", "baseline_id")]

    own = [other for other in divergences if find_pair(other[1].labels) == find_pair(manifest.labels)]
    samples: dict[str, list[float]] = defaultdict(list)
    if own:
        newest, _ = max(own, key=lambda other: (other[1].created, other[1].id))
        store.check(newest)
        for record in read_records(newest / DIVERGENCE):
            samples[record["prompt_id"]].append(float(record["kl"]))
    kl = {prompt_id: sum(values) / len(values) for prompt_id, values in sorted(samples.items())}
    store.check(folder)
    return Evaluation(manifest.labels, read_records(folder / VERDICTS), kl, manifest.created)


def make_group(matches: list[Evaluation], judge_metrics: dict[str, Any], choices: Iterable[StoredChoice]) -> Group:
    """Return a group in order; of a match judged twice the newer one counts."""
    ordered = sorted(matches, key=lambda match: match.created)
    newest = {(match.id, match.opponent_id): match for match in ordered}.values()
    policies = {match.id: match for match in newest if match.opponent_id == match.labels["baseline_id"]}
    meetings = [match for match in newest if match.id in policies and match is not policies[match.id]]
    parents = {match.id: _find_ancestors(match.policy, policies.keys()) for match in policies.values()}
    tagged = arrange_policies(policies.values())
    # Responses made elsewhere have no known ancestors: each policy is compared with those before it.
    alone = (match for match in tagged if not match.policy.parents and not match.is_baseline)
    imported = [match.id for match in alone if "imported" in match.policy.base.recipe]
    parents |= {policy_id: tuple(imported[:index]) for index, policy_id in enumerate(imported)}
    return Group(tagged, tuple(sorted(meetings, key=_order)), parents, judge_metrics, tuple(choices))


def _find_ancestors(policy: Policy, evaluated: AbstractSet[str]) -> tuple[str, ...]:
    """Return ids of the nearest evaluated policies on each line of descent."""
    nearest: dict[str, None] = {}
    for parent in policy.parents:
        ids = (parent.id,) if parent.id in evaluated else _find_ancestors(parent, evaluated)
        nearest |= dict.fromkeys(ids)
    return tuple(nearest)


def _order(match: Evaluation) -> tuple[Any, ...]:
    settings = match.policy.aligned[-1].settings if match.policy.aligned else {}
    own = (settings[name] for name in sorted(settings))
    values = (match.beta, match.policy.merge_ratio, *own, *(match.labels.get(key) for key in TAGS))
    numbers = [-1 if value is None else value for value in values]
    rank = 0 if match.is_baseline else max(1, match.policy.rank)
    return (rank, match.policy.family, *numbers, match.id)


def arrange_policies(policies: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
    """Return policies in the order of tables: baseline, first stages, second stages, merges.

    Policies that would have the same title are tagged by the first stage's β, the seed, or a hash.
    """
    ordered = sorted(policies, key=_order)
    tagged = []
    for policy in ordered:
        alike = [other for other in ordered if other.title == policy.title]
        keys = [key for key in TAGS if len({other.labels.get(key) for other in alike}) > 1]
        if len({tuple(other.labels.get(key) for key in keys) for other in alike}) == len(alike):
            values = {TAGS[key]: policy.labels.get(key) for key in keys}
            tag = "".join(f" {name}={'none' if value is None else f'{value:g}'}" for name, value in values.items())
        else:
            tag = f" #{policy.id.rsplit('-', 1)[-1][:4]}"
        tagged.append(replace(policy, tag=tag))
    return tuple(tagged)
