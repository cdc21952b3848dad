"""What a policy was made from and what it scored: the facts of its card, from the plan and the store."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.method.policy import Policy
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, policy_of_spec
from sacpo_exp.reporting.collect import Group, collect_groups
from sacpo_exp.reporting.scores import PolicyScores, score_policy
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.store import ArtifactSpec, Manifest, Store, hash_of

#: The folders of a path that does not begin where the command is started.
FOLDERS = re.compile(r"(?<=[=:,\[{'\"])[~./][^=,\]}'\"]*/(?=[^/,\]}'\"])")


@dataclass(frozen=True)
class Ancestry:
    """A policy of a plan and what is stored of it and of its ancestors.

    Attributes:
        stages: of the plan, those that made it, in order.
        made: manifests by id; of what lies in a mirror only there is none.
    """

    policy: Policy
    stages: tuple[Stage, ...]
    made: dict[str, Manifest]

    @property
    def overrides(self) -> list[str] | None:
        """Of the command that made it, without what says something of this machine; None for an untrained model."""
        given = self.made[self.policy.id].labels.get("overrides") if self.policy.parents else None
        return given and [FOLDERS.sub("", text) for text in given]


def trace_policy(run: Run, policy: ArtifactSpec) -> Ancestry:
    """The ancestry as planned of a policy that is stored."""
    described = policy_of_spec(policy)
    line = {each.id for each in (*described.ancestors, described)}
    specs = [spec for spec in (run.plan.model, *run.plan.made(), policy) if spec.id in line and run.store.has(spec)]
    made = {spec.id: run.store.manifest(spec) for spec in specs}  # there perhaps under other names
    return Ancestry(described, tuple(stage for stage in run.plan.stages if stage.artifact.id in line), made)


def list_evaluated(store: Store) -> list[Group]:
    """All groups of stored evaluations, newest last; none if nothing has been evaluated."""
    try:
        return collect_groups(store, None, None)
    except MissingArtifactError:
        return []


def find_scores(groups: Sequence[Group], policy: Policy) -> list[tuple[Group, PolicyScores]]:
    """What the policy scored in every one of the groups, computed as a report does."""
    found = ((group, entry) for group in groups for entry in group.policies if hash_of(entry.id) == hash_of(policy.id))
    return [(group, score_policy(entry, SETTINGS)) for group, entry in found]
