"""What a policy was made from and what it scored: the facts of its card, from the plan and the store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sacpo_exp.config.models import ModelConfig, ModelSource
from sacpo_exp.config.schema import DatasetConfig, DatasetSource
from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.evaluation.tracking import SETTINGS
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Merge, Stage
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.commands import Command, derive_command
from sacpo_exp.reporting.groups import Group
from sacpo_exp.reporting.lineage import KINDS, Lineage
from sacpo_exp.reporting.scores import PolicyScores, score_policy
from sacpo_exp.store import ArtifactSpec, Manifest, Store, hash_of
from sacpo_exp.store.identity import SCHEMA_VERSION


@dataclass(frozen=True)
class Ancestry:
    """A policy of a plan and all that it descends from.

    Attributes:
        stages: those that lead to it, in order.
        merge: that made it, if one did.
        made: of the policy and its ancestors what the store knows, by id: when, with which versions.
        command: that makes it again, without paths of this machine; None for an untrained model.
    """

    policy: ArtifactSpec
    model: ArtifactSpec
    stages: tuple[Stage, ...]
    merge: Merge | None
    made: dict[str, Manifest]
    command: Command | None


def trace_policy(run: Run, policy: ArtifactSpec) -> Ancestry:
    """The ancestry as planned: what lies in a mirror only is known by its recipe all the same."""
    specs = {spec.id: spec for spec in (*run.plan.training(), policy) if spec.kind in KINDS}
    manifests = {name: _describe(run.store, spec) for name, spec in specs.items()}
    lineage = Lineage(manifests, {})
    line = lineage.list_ancestors(policy.id)
    merge = run.plan.merge if run.plan.merge and run.plan.merge.artifact == policy else None
    command = derive_command(lineage, policy.id)
    return Ancestry(
        policy,
        run.plan.model,
        tuple(stage for stage in run.plan.stages if stage.artifact.id in line),
        merge,
        {name: manifests[name] for name in line},
        command and _hide_paths(run, command),
    )


def _describe(store: Store, spec: ArtifactSpec) -> Manifest:
    recipe, parents = spec.recipe, list(spec.parents)
    if store.has(spec):  # perhaps under other names
        return replace(store.manifest(spec), id=spec.id, parents=parents, labels=spec.labels)
    return Manifest(spec.id, spec.kind, SCHEMA_VERSION, recipe, parents, spec.labels, {}, "", 0.0, {}, None, {})


def _hide_paths(run: Run, command: Command) -> Command:
    """Names of local files and folders in place of their paths, which say nothing elsewhere."""
    overrides = command.overrides
    for path in sorted(set(list_paths(run)), key=len, reverse=True):
        overrides = tuple(override.replace(path, Path(path).name) for override in overrides)
    return replace(command, overrides=overrides)


def list_paths(run: Run) -> Iterator[str]:
    """Local files and folders that the plan reads."""
    yield from _model_paths(run.config.model)
    for dataset in (run.config.dataset, *(stage.dataset for stage in run.plan.stages)):
        yield from _dataset_paths(dataset)


def _model_paths(model: ModelConfig) -> Iterator[str]:
    if model.source == ModelSource.path and model.path:
        yield model.path


def _dataset_paths(dataset: DatasetConfig) -> Iterator[str]:
    if dataset.source == DatasetSource.path:
        yield from filter(None, (dataset.path, dataset.heldout_path, *(part.path for part in dataset.mix)))


def list_evaluated(store: Store) -> list[Group]:
    """All groups of stored evaluations, newest last; none if nothing has been evaluated."""
    try:
        return collect_groups(store, None, None)
    except MissingArtifactError:
        return []


def find_scores(groups: Sequence[Group], policy: ArtifactSpec) -> list[tuple[Group, PolicyScores]]:
    """What the policy scored in every one of the groups, computed as a report does."""
    found = ((group, entry) for group in groups for entry in group.policies if hash_of(entry.id) == policy.hash)
    return [(group, score_policy(entry, SETTINGS)) for group, entry in found]
