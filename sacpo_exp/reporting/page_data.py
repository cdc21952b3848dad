"""What a page knows, as plain values: scores, lineage, commands, curves, verdicts and texts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sacpo_exp.method.policy import Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.choices import describe_choice
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.reporting.lineage import Lineage, write_command
from sacpo_exp.reporting.page_figure import (
    Plain,
    describe_cohort,
    describe_criteria,
    describe_families,
    describe_point,
    describe_sections,
    numbers,
    place_points,
)
from sacpo_exp.reporting.page_texts import Texts
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.sections import make_sections
from sacpo_exp.statistics.win_rate import Record, entries_of


def describe_page(scores: Sequence[GroupScores], cohorts: Sequence[Cohort], lineage: Lineage) -> Plain:
    """Everything that the page shows; it computes nothing by itself."""
    texts = Texts()
    groups = [_describe_group(group, lineage, texts) for group in scores]
    ids = {
        each.id
        for group in scores
        for match in group.group.policies
        for each in [*match.policy.ancestors, match.policy]
    }
    made = [name for name in lineage.manifests if name in ids]
    return {
        "groups": groups,
        "cohorts": [describe_cohort(cohort) for cohort in cohorts],
        "made": {name: _describe_artifact(lineage, name) for name in made},
        "curves": {name: lineage.read_curves(name) for name in made if lineage.manifests[name].kind == "stage"},
        "texts": texts.list(),
    }


def _describe_group(scores: GroupScores, lineage: Lineage, texts: Texts) -> Plain:
    group = scores.group
    places = {policy.id: place for place, policy in enumerate(group.policies)}
    prompts = _collect_prompts(group.policies)
    return {
        "heading": group.heading,
        "provenance": group.provenance,
        "judge": group.policies[0].labels["judge"],
        "confidence": scores.confidence,
        "axes": scores.axes,
        "criteria": describe_criteria(group),
        "families": describe_families(scores),
        "policies": [
            describe_point(row) | place | _describe_policy(row, lineage)
            for row, place in zip(scores.policies, place_points(scores), strict=True)
        ],
        "health": _describe_health(scores),
        "sections": describe_sections(make_sections(scores)),
        "choices": [describe_choice(stored) for stored in group.choices],
        "categories": [
            {
                "policy": places[row.policy.id],
                "criterion": row.criterion.name,
                "rates": {name: numbers(estimate) for name, estimate in row.estimates.items()},
            }
            for row in scores.categories
        ],
        "prompts": [
            {"text": texts.add(record["prompt"]), "kind": record["kind"], "category": record["category"]}
            for record in prompts.values()
        ],
        "answers": [_describe_answers(policy, prompts, texts) for policy in group.policies],
        "meetings": [
            {"pair": [places[match.id], places[match.opponent_id]]} | _describe_verdicts(match, prompts)
            for match in group.meetings
            if match.opponent_id in places
        ],
    }


def _describe_policy(row: PolicyScores, lineage: Lineage) -> Plain:
    match = row.policy
    overrides = lineage.find_overrides(match.policy)
    return {
        "id": match.id,
        "seed": match.policy.seed,
        "train": write_command("train", overrides) if overrides is not None else None,
        "eval": write_command("eval", [*overrides, *_evaluation(match)]) if overrides is not None else None,
        "line": [policy.id for policy in (*match.policy.ancestors, match.policy)],
    }


def _evaluation(policy: Evaluation) -> list[str]:
    """Overrides that say which policy is judged, by whom, on what; their defaults are left out."""
    named = {"judge": policy.labels["judge"], "prompts": policy.labels["prompts"]}
    usual = {"judge": "scorer", "prompts": "demo"}
    return ["policies=all", *(f"{key}={value}" for key, value in named.items() if value != usual[key])]


def _describe_artifact(lineage: Lineage, artifact_id: str) -> Plain:
    """One box of a lineage."""
    manifest = lineage.manifests[artifact_id]
    policy = read_policy(manifest.labels[LINEAGE]) if LINEAGE in manifest.labels else None
    return {
        "kind": manifest.kind,
        "policy": policy.name if policy else artifact_id,
        "family": policy.family if policy and policy.parents else "base",
        "parents": [parent.id for parent in policy.parents] if policy else [],
        "recipe": _describe_recipe(policy, manifest.recipe),
        "created": manifest.created[:10],
        "commit": manifest.commit,
    }


def _describe_recipe(policy: Policy | None, recipe: Mapping[str, Any]) -> str:
    """The settings that people compare, in one line."""
    parts = [recipe["loss"]["name"]] if "loss" in recipe else []
    parts += [f"on {policy.dataset}"] if policy and "loss" in recipe else []
    parts += [f"for {recipe['criterion']}"] if "criterion" in recipe else []
    names = {"beta": "β", "weights": "weights", "learning_rate": "lr", "num_train_epochs": "epochs"}
    names |= {"global_batch_size": "batch", "seed": "seed", "dtype": ""}
    return ", ".join(
        [*parts, *(f"{name} {_short(recipe[key])}".strip() for key, name in names.items() if key in recipe)]
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe_health(scores: GroupScores) -> Plain:
    """How many prompts have a verdict, and if the judge was asked, how it behaved and what it cost."""
    states = {
        state: sum(row.states[state] for row in scores.policies) for state in ("ok", "unparsed", "refused", "failed")
    }
    overall = [row for row in scores.conduct if row.title == "all policies"]
    return {
        "states": states,
        "flips": {row.criterion.name: numbers(row.bias.flip_rate) for row in overall},
        "accuracy": {row.criterion: numbers(row.accuracy) for row in scores.judge},
        "usd": scores.usage.usd if scores.usage else None,
        "calls": scores.usage.calls if scores.usage else None,
        "is_asked": scores.usage is not None,
    }


def _collect_prompts(policies: Sequence[Evaluation]) -> dict[str, Record]:
    """A record with each prompt's text, kind and category, in the order of the ids, numbers in them as numbers."""
    found = {record["prompt_id"]: record for policy in policies for record in policy.records}
    return {name: found[name] for name in sorted(found, key=_natural)}


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _describe_answers(policy: Evaluation, prompts: Mapping[str, Record], texts: Texts) -> Plain:
    records = {record["prompt_id"]: record for record in policy.records}
    said = [texts.add(records[name]["response"]) if name in records else None for name in prompts]
    return {"texts": said} | _describe_verdicts(policy, prompts)


def _describe_verdicts(match: Evaluation, prompts: Mapping[str, Record]) -> Plain:
    """For each prompt the verdict, 1 won to 0 lost, or what came of the judgment; None where it is not scored."""
    verdicts = {}
    for criterion in match.criteria:
        entries = entries_of(match.records, criterion)
        found = [entries.get(name) for name in prompts]
        verdicts[criterion.name] = [
            entry and (entry["verdict"] if entry["state"] == "ok" else entry["state"]) for entry in found
        ]
    return {"verdicts": verdicts}
