"""The data of a page's script: training curves, and prompts with responses and verdicts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sacpo_exp.method.policy import Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.statistics.win_rate import Record, entries_of

Plain = dict[str, Any]
#: Settings of a recipe that a page shows, with their short names.
SETTINGS = {"beta": "β", "weights": "weights", "learning_rate": "lr", "num_train_epochs": "epochs"}
SETTINGS |= {"global_batch_size": "batch", "seed": "seed", "dtype": ""}


def describe_groups(groups: Sequence[Group], lineage: Lineage, most: int) -> Plain:
    """Return plain values; each text stands once in `texts`, and others refer to it by its number.

    Args:
        most: bytes of texts; if there are more, the longest are cut.
    """
    texts: dict[str, int] = {}
    described = [_describe_group(group, lineage, texts) for group in groups]
    stages = {stage for group in described for stage in group["stages"]}
    kept, limit = shorten_texts(list(texts), most)
    curves = {
        stage: {"title": _name(lineage, stage), "metrics": lineage.read_curves(stage)} for stage in sorted(stages)
    }
    return {"groups": described, "curves": curves, "texts": kept, "cut": limit}


def _describe_group(group: Group, lineage: Lineage, texts: dict[str, int]) -> Plain:
    places = {policy.id: place for place, policy in enumerate(group.policies)}
    records = {record["prompt_id"]: record for policy in group.policies for record in policy.records}
    prompts = {name: records[name] for name in sorted(records, key=_natural)}
    line = dict.fromkeys(each.id for match in group.policies for each in (*match.policy.ancestors, match.policy))
    return {
        "criteria": [each.name for each in group.criteria],
        "policies": [
            {"title": policy.title, "baseline": policy.is_baseline, "texts": _number_texts(policy, prompts, texts)}
            | {"verdicts": _list_verdicts(policy, prompts)}
            for policy in group.policies
        ],
        "prompts": [
            {
                "text": texts.setdefault(record["prompt"], len(texts)),
                "kind": record["kind"],
                "category": record["category"],
            }
            for record in prompts.values()
        ],
        "meetings": [
            {"pair": [places[match.id], places[match.opponent_id]], "verdicts": _list_verdicts(match, prompts)}
            for match in group.meetings
            if match.opponent_id in places
        ],
        "stages": [name for name in line if name in lineage.manifests and lineage.manifests[name].kind == "stage"],
    }


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts p2 before p10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _number_texts(policy: Evaluation, prompts: Mapping[str, Record], texts: dict[str, int]) -> list[int | None]:
    responses = {record["prompt_id"]: record["response"] for record in policy.records}
    return [texts.setdefault(responses[name], len(texts)) if name in responses else None for name in prompts]


def _list_verdicts(match: Evaluation, prompts: Mapping[str, Record]) -> dict[str, list[Any]]:
    """Return, by criterion, for each prompt 1 (won) to 0 (lost), or `failed` and the like, or None."""
    verdicts = {}
    for criterion in match.criteria:
        entries = entries_of(match.records, criterion)
        found = [entries.get(name) for name in prompts]
        verdicts[criterion.name] = [
            entry and (entry["verdict"] if entry["state"] == "ok" else entry["state"]) for entry in found
        ]
    return verdicts


def shorten_texts(texts: Sequence[str], most: int) -> tuple[list[str], int | None]:
    """Return the texts with at most `most` bytes, and how many characters of each are kept; None if all are."""

    def cut(text: str, limit: int) -> str:
        return text if len(text) <= limit else f"{text[:limit]} … [{len(text) - limit} more characters]"

    longest = limit = max(map(len, texts), default=0)
    kept = list(texts)
    while limit > 1 and sum(len(text.encode("utf-8", "replace")) + 3 for text in kept) > most:
        limit = limit * 9 // 10
        kept = [cut(text, limit) for text in texts]
    return kept, limit if limit < longest else None


def list_steps(policy: Policy, lineage: Lineage) -> list[tuple[str, str]]:
    """Return name and description of a policy's ancestors and of the policy itself, oldest first."""
    steps = []
    for each in (*policy.ancestors, policy):
        manifest = lineage.manifests.get(each.id)
        text = f"{manifest.kind}: {_describe_recipe(each, manifest.recipe)}" if manifest else "not in this store"
        steps.append((_name(lineage, each.id), text.removesuffix(": ")))
    return steps


def _name(lineage: Lineage, artifact_id: str) -> str:
    labels = lineage.manifests[artifact_id].labels if artifact_id in lineage.manifests else {}
    return read_policy(labels[LINEAGE]).name if LINEAGE in labels else artifact_id


def _describe_recipe(policy: Policy, recipe: Mapping[str, Any]) -> str:
    """Return the settings that people compare, in one line."""
    parts = [recipe["loss"]["name"], f"on {policy.dataset}"] if "loss" in recipe else []
    parts += [f"for {recipe['criterion']}"] if recipe.get("criterion") else []
    parts += [f"of {' and '.join(parent.name for parent in policy.parents)}"] if len(policy.parents) > 1 else []
    values = {name: recipe[key] for key, name in SETTINGS.items() if key in recipe}
    values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join([*parts, *(f"{name} {value}".strip() for name, value in values.items())])
