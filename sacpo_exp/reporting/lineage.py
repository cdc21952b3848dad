"""Lineages with commands and curves, and prompts with responses and verdicts, for the page and the terminal."""

import json
import random
import shlex
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sacpo_exp.method.policy import Policy
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.tables import WIDTH
from sacpo_exp.statistics.win_rate import Record, entries_of
from sacpo_exp.store import Manifest, Store

#: Points of one curve; more can't be told apart on a page.
MOST_POINTS: Final = 240
#: Ends of the names of logged values that do not show progress.
NO_CURVES: Final = ("runtime", "per_second", "flos", "num_tokens", "epoch", "step", "train_loss")
#: Settings of a recipe that a page shows, with their short names.
SETTINGS: Final = {
    "beta": "β",
    "weights": "weights",
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "global_batch_size": "batch",
    "seed": "seed",
    "dtype": "",
}

LONGEST: Final = 600  # characters of a text that the terminal shows

Plain = dict[str, Any]


@dataclass(frozen=True)
class Lineage:
    """Folder and manifest of every stored artifact by id."""

    entries: Mapping[str, tuple[Path, Manifest]]

    def find_overrides(self, policy: Policy) -> list[str] | None:
        """Return the overrides of the command that made a policy; None if its manifest is not in this store."""
        return self.entries[policy.id][1].labels.get("overrides") if policy.id in self.entries else None

    def read_curves(self, stage_id: str) -> dict[str, list[tuple[float, float]]]:
        """Return metric → (update, value) of a stored stage, at most 241 points; empty if none were kept."""
        path = self.entries[stage_id][0] / "metrics.jsonl"
        curves = defaultdict(list)
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            entry = json.loads(line)
            for name, value in entry.items() if "step" in entry else ():
                if isinstance(value, int | float) and not name.endswith(NO_CURVES):
                    curves[name].append((entry["step"], value))
        kept = {name: points for name, points in curves.items() if len(points) > 1 or name.startswith("eval_")}
        return {name: points[: -1 : -(-len(points) // MOST_POINTS)] + points[-1:] for name, points in kept.items()}


def read_lineage(store: Store) -> Lineage:
    """Read all manifests; raise StoreError if one is damaged."""
    return Lineage({manifest.id: (folder, manifest) for folder, manifest in store.manifests()})


def write_command(entry: str, overrides: Sequence[str]) -> str:
    """Return the command line with these overrides, quoted for a shell."""
    return " ".join([f"sacpo {entry}", *map(shlex.quote, overrides)])


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
    stages = [name for name in line if name in lineage.entries and lineage.entries[name][1].kind == "stage"]
    for name in stages:
        curves[name] = {"title": line[name].name, "metrics": lineage.read_curves(name)}
    prompts = {record["prompt_id"]: record for policy in group.policies for record in policy.records}
    return {
        "stages": stages,
        "criteria": [each.name for each in group.criteria],
        "prompts": [
            {"text": texts.setdefault(each["prompt"], len(texts)), "kind": each["kind"], "category": each["category"]}
            for each in prompts.values()
        ],
        "policies": [_describe_policy(policy, prompts, texts) for policy in group.policies],
    }


def _describe_policy(policy: Evaluation, prompts: Mapping[str, Record], texts: dict[str, int]) -> Plain:
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
        manifest = lineage.entries[each.id][1] if each.id in lineage.entries else None
        recipe, parts = (manifest.recipe, [manifest.kind]) if manifest else ({}, ["not in this store"])
        parts += [recipe["loss"]["name"], f"on {each.dataset}"] if "loss" in recipe else []
        parts += [f"for {recipe['criterion']}"] if recipe.get("criterion") else []
        parts += [f"of {' and '.join(parent.name for parent in each.parents)}"] if len(each.parents) > 1 else []
        values = {name: recipe[key] for key, name in SETTINGS.items() if key in recipe}
        values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
        steps.append((each.name, ", ".join([*parts, *(f"{name} {value}".strip() for name, value in values.items())])))
    return steps


def format_examples(group: Group, count: int, seed: int) -> str:
    """Return random prompts with the responses of the last stage's newest policy and of its evaluated ancestors.

    Prompts to which all gave the same response come last.
    """
    last = max(group.policies, key=lambda match: (match.policy.rank, match.created, match.id))
    line, waiting = set[str](), [last.id]
    while waiting:
        line.add(policy_id := waiting.pop())
        waiting += group.parents[policy_id]
    policies = [policy for policy in group.policies if policy.id in line]
    records = [{record["prompt_id"]: record for record in policy.records} for policy in policies]
    shared = sorted(set.intersection(*map(set, records)))
    random.Random(seed).shuffle(shared)
    baseline = {name: record["opponent_response"] for name, record in records[0].items()}
    shared.sort(key=lambda name: {own[name]["response"] for own in records} == {baseline[name]})
    parts = []
    for name in shared[:count]:
        prompt = records[0][name]
        texts = [(policy.title, own[name]["response"]) for policy, own in zip(policies, records, strict=True)]
        if not policies[0].is_baseline:
            texts.insert(0, ("baseline", baseline[name]))
        lines = [_wrap(f"{prompt['kind'] or 'prompt'}: {prompt['prompt']}", "")]
        parts.append("\n".join([*lines, *(_wrap(f"{title}: {text}", "  ") for title, text in texts)]))
    return "\n\n".join(["Examples", *parts]) + "\n" if parts else ""


def _wrap(text: str, indent: str) -> str:
    """Return `text` in lines of at most 120 columns, shortened, without characters that would move the cursor."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in shown.splitlines() if line.strip()]
    return "\n".join(
        textwrap.fill(line, WIDTH, initial_indent=indent + "  " * (index > 0), subsequent_indent=indent + "  ")
        for index, line in enumerate(lines)
    )
