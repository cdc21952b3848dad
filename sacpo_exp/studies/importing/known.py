"""Policies of the paper, known by the names that its code and its published weights have."""

from collections.abc import Mapping
from dataclasses import replace

from sacpo_exp.evaluation.contests import Entrant
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.published import read_published

TABLE = "sacpo_table3"


def add_lineages(entrants: Mapping[str, Entrant], baseline: str) -> dict[str, Entrant]:
    """The entrants by name; those of the paper get the stages that made them, with the baseline as untrained model."""
    rows = read_published(TABLE, confidence=0.95).rows
    known = {name: row.policy.policy for row in rows for name in row.config.also if row.policy.policy.aligned}
    ids = {known[name].hash_without(): each.labels["policy_id"] for name, each in entrants.items() if name in known}
    model = None if baseline in known else read_policy(entrants[baseline].labels[LINEAGE])

    def rebuild(policy: Policy) -> Policy:
        key = policy.hash_without()
        match policy:
            case Aligned():
                return Aligned(ids.get(key, key), rebuild(policy.parent), policy.stage)
            case Merged():
                return Merged(ids.get(key, key), tuple(map(rebuild, policy.policies)), policy.mix)
        return model if isinstance(model, Base) else policy

    def describe(name: str, entrant: Entrant) -> Entrant:
        if name not in known:
            return entrant
        policy = replace(rebuild(known[name]), id=entrant.labels["policy_id"])
        return replace(entrant, labels=entrant.labels | policy.columns | {LINEAGE: policy.to_dict()})

    return {name: describe(name, entrant) for name, entrant in entrants.items()}
