"""The data of a page's script: training curves, and prompts with responses and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from sacpo_exp.method.policy import Policy
from sacpo_exp.reporting.collect import Evaluation, Group
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
    curves: dict[str, Plain] = {}
    described = [_describe_group(group, lineage, texts, curves) for group in groups]
    kept, limit = shorten_texts(list(texts), most)
    return {"groups": described, "curves": curves, "texts": kept, "cut": limit}


def _describe_group(group: Group, lineage: Lineage, texts: dict[str, int], curves: dict[str, Plain]) -> Plain:
    line = {each.id: each for match in group.policies for each in (*match.policy.ancestors, match.policy)}
    stages = [name for name in line if name in lineage.manifests and lineage.manifests[name].kind == "stage"]
    for name in stages:
        curves[name] = {"title": line[name].name, "metrics": lineage.read_curves(name)}
    prompts = {record["prompt_id"]: record for policy in group.policies for record in policy.records}
    return {
        "stages": stages,
        "criteria": [each.name for each in group.criteria],
        "prompts": [
            {"text": texts.setdefault(record["prompt"], len(texts))}
            | {key: record[key] for key in ("kind", "category")}
            for record in prompts.values()
        ],
        "policies": [_describe_policy(policy, prompts, texts) for policy in group.policies],
    }


def _describe_policy(policy: Evaluation, prompts: Mapping[str, Record], texts: dict[str, int]) -> Plain:
    """Return, for each prompt, the number of the response, and by criterion 1 (won) to 0 (lost), or `failed` etc."""
    responses = {record["prompt_id"]: record["response"] for record in policy.records}
    verdicts = {}
    for criterion in policy.criteria:
        entries = entries_of(policy.records, criterion)
        found = [entries.get(name) for name in prompts]
        verdicts[criterion.name] = [
            entry and (entry["verdict"] if entry["state"] == "ok" else entry["state"]) for entry in found
        ]
    return {
        "title": policy.title,
        "baseline": policy.is_baseline,
        "texts": [texts.setdefault(responses[name], len(texts)) if name in responses else None for name in prompts],
        "verdicts": verdicts,
    }


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
    """Return name and main settings of a policy's ancestors and of the policy itself, oldest first."""
    steps = []
    for each in (*policy.ancestors, policy):
        manifest = lineage.manifests.get(each.id)
        recipe = manifest.recipe if manifest else {}
        parts = [manifest.kind if manifest else "not in this store"]
        parts += [recipe["loss"]["name"], f"on {each.dataset}"] if "loss" in recipe else []
        parts += [f"for {recipe['criterion']}"] if recipe.get("criterion") else []
        parts += [f"of {' and '.join(parent.name for parent in each.parents)}"] if len(each.parents) > 1 else []
        values = {name: recipe[key] for key, name in SETTINGS.items() if key in recipe}
        values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
        steps.append((each.name, ", ".join([*parts, *(f"{name} {value}".strip() for name, value in values.items())])))
    return steps
