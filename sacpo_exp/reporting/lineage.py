"""What the page shows of policies beside numbers: lineages, commands, training curves, responses."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sacpo_exp.evaluation.records import read_records
from sacpo_exp.method.policy import Policy, write
from sacpo_exp.reporting.collect import Entry, Evaluation, Group
from sacpo_exp.statistics.win_rate import Record, entries_of
from sacpo_exp.tracking.runs import COMPLETIONS

#: Points of one curve; more can't be told apart on a page.
MOST_POINTS: Final = 240
#: Ends of the names of logged values that do not show progress.
NO_CURVES: Final = ("runtime", "per_second", "flos", "num_tokens", "epoch", "step", "train_loss")
#: Settings of a recipe that a page shows.
SETTINGS: Final = ("beta", "weights", "learning_rate", "num_train_epochs", "global_batch_size", "seed", "dtype")

#: Folder and manifest of every stored artifact by id.
Lineage = Mapping[str, Entry]
Plain = dict[str, Any]


def find_overrides(policy: Policy, lineage: Lineage) -> list[str] | None:
    """Return the overrides of the command that made a policy; None if its manifest is not in this store."""
    return lineage[policy.id][1].labels.get("overrides") if policy.id in lineage else None


def write_command(entry: str, overrides: Sequence[str]) -> str:
    """Return the command line with these overrides, quoted for a shell."""
    return " ".join([f"sacpo {entry}", *map(shlex.quote, overrides)])


def list_steps(policy: Policy, lineage: Lineage) -> list[tuple[str, str]]:
    """Return name and main settings of a policy's ancestors and of the policy itself, oldest first."""
    steps = []
    for each in (*policy.ancestors, policy):
        if each.id not in lineage:
            steps.append((each.name, "not in this store"))
            continue
        manifest = lineage[each.id][1]
        recipe, parts = manifest.recipe, [manifest.kind]
        parts += [recipe["loss"]["name"], f"on {each.dataset}"] if "loss" in recipe else []
        parts += [f"for {recipe['criterion']}"] if recipe.get("criterion") else []
        parts += [f"of {' and '.join(parent.name for parent in each.parents)}"] if len(each.parents) > 1 else []
        values = {key: recipe[key] for key in SETTINGS if key in recipe}
        values = {key: write(value) if isinstance(value, float) else value for key, value in values.items()}
        steps.append((each.name, ", ".join([*parts, *(f"{key} {value}" for key, value in values.items())])))
    return steps


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return metric → (update, value) of a stored stage, at most 241 points; empty if none were kept."""
    curves = defaultdict(list)
    for entry in read_log(folder / "metrics.jsonl"):
        for name, value in entry.items() if "step" in entry else ():
            if isinstance(value, int | float) and not name.endswith(NO_CURVES):
                curves[name].append((entry["step"], value))
    kept = {name: points for name, points in curves.items() if len(points) > 1 or name.startswith("eval_")}
    return {name: points[: -1 : -(-len(points) // MOST_POINTS)] + points[-1:] for name, points in kept.items()}


def read_log(path: Path) -> list[Plain]:
    """Return the lines of a file that was written while a stage trained; empty if nothing was."""
    return read_records(path) if path.is_file() else []


def describe_groups(groups: Sequence[Group], lineage: Lineage, most: int) -> Plain:
    """Return plain values; each text stands once in `texts`, and others refer to it by its number.

    If there are more than `most` characters of texts, those above the average length are cut.
    """
    numbers: dict[str, int] = {}
    curves: dict[str, Plain] = {}
    described = [_describe_group(group, lineage, numbers, curves) for group in groups]
    texts, limit = list(numbers), None
    if sum(map(len, texts)) > most:
        limit = most // len(texts)
        texts = [text if len(text) <= limit else f"{text[:limit]} … [{len(text) - limit} more]" for text in texts]
    return {"groups": described, "curves": curves, "texts": texts, "cut": limit}


def _describe_group(group: Group, lineage: Lineage, numbers: dict[str, int], curves: dict[str, Plain]) -> Plain:
    line = {each.id: each for match in group.policies for each in (*match.policy.ancestors, match.policy)}
    stages = [name for name in line if name in lineage and lineage[name][1].kind == "stage"]
    for name in stages:
        folder, _ = lineage[name]
        logged = [list(row.values()) for row in read_log(folder / COMPLETIONS)]
        curves[name] = {"title": line[name].name, "metrics": read_curves(folder), "completions": logged}
    prompts = {record["prompt_id"]: record for policy in group.policies for record in policy.records}
    shown = []
    for each in prompts.values():
        text = numbers.setdefault(each["prompt"], len(numbers))
        shown.append({"text": text, "kind": each["kind"], "category": each["category"]})
    policies = [_describe_policy(policy, prompts, numbers) for policy in group.policies]
    criteria = [each.name for each in group.criteria]
    return {"stages": stages, "criteria": criteria, "prompts": shown, "policies": policies}


def _describe_policy(policy: Evaluation, prompts: Mapping[str, Record], numbers: dict[str, int]) -> Plain:
    """Return, for each prompt, the number of the response, and by criterion 1 (won) to 0 (lost), or `failed` etc."""
    responses = {record["prompt_id"]: record["response"] for record in policy.records}
    verdicts = {}
    for criterion in policy.criteria:
        entries = entries_of(policy.records, criterion)
        shown = {key: each["verdict"] if each["state"] == "ok" else each["state"] for key, each in entries.items()}
        verdicts[criterion.name] = [shown.get(name) for name in prompts]
    return {
        "title": policy.title,
        "baseline": policy.is_baseline,
        "texts": [numbers.setdefault(responses[name], len(numbers)) if name in responses else None for name in prompts],
        "verdicts": verdicts,
    }
