"""What the figures and tables of a page know, as plain values: points, families, means over seeds."""

from collections.abc import Sequence
from typing import Any

from sacpo_exp.reporting.cohort_sections import make_cohort_sections
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.families import find_families
from sacpo_exp.reporting.figures import find_points
from sacpo_exp.reporting.groups import Group
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.section import Section
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.selection import find_front

Plain = dict[str, Any]


def numbers(estimate: Estimate) -> list[float]:
    """Value, both ends of the interval, number of prompts."""
    return [estimate.value, estimate.low, estimate.high, estimate.n]


def describe_families(scores: GroupScores) -> list[Plain]:
    """Colour, marker, labels and joining lines; policies by their places."""
    places = {row.policy.id: place for place, row in enumerate(scores.policies)}
    return [
        {
            "name": family.name,
            "colour": "#" + "".join(f"{round(255 * channel):02x}" for channel in family.style.colour),
            "marker": family.style.marker,
            "line": family.style.line,
            "lines": [[places[row.policy.id] for row in line] for line in family.lines],
            "labels": {places[row.policy.id]: family.label(row) for row in family.rows},
        }
        for family in find_families(scores.policies, scores.axes)
    ]


def place_points(scores: GroupScores) -> list[Plain]:
    """Of each policy the place of its family, and whether it is on the Pareto front."""
    families = find_families(scores.policies, scores.axes)
    family_of = {row.policy.id: place for place, family in enumerate(families) for row in family.rows}
    front = find_front(find_points(scores))
    return [
        {"family": family_of.get(row.policy.id), "front": is_on_front}
        for row, is_on_front in zip(scores.policies, front, strict=True)
    ]


def describe_point(row: PolicyScores) -> Plain:
    """What a policy, or a mean over seeds, is called and scored."""
    policy = row.policy
    return {
        "title": policy.title,
        "name": policy.name,
        "baseline": policy.is_baseline,
        "beta": policy.beta,
        "q": policy.merge_ratio,
        "estimates": {
            **{name: numbers(own.rate) for name, own in row.by_criterion.items()},
            "refused risky": numbers(row.refusals),
            "refused benign": numbers(row.over_refusals),
            "KL (nats)": numbers(row.kl),
        },
        "tokens": row.tokens,
        "missing": row.missing,
    }


def describe_sections(sections: Sequence[Section]) -> list[Plain]:
    """Tables as they stand in the terminal."""
    return [{"title": part.title, "rows": part.rows, "left": part.left, "note": part.note} for part in sections]


def describe_cohort(cohort: Cohort) -> Plain:
    """Means with the points of their seeds, and all tables."""
    means = cohort.means
    return {
        "groups": cohort.groups,
        "provenance": cohort.provenance,
        "confidence": cohort.confidence,
        "axes": means.axes if means else [],
        "criteria": describe_criteria(means.group) if means else [],
        "families": describe_families(means) if means else [],
        "policies": [
            describe_point(row) | place | _describe_seeds(row, means.axes)
            for row, place in zip(means.policies, place_points(means), strict=True)
        ]
        if means
        else [],
        "sections": describe_sections(make_cohort_sections(cohort)),
    }


def describe_criteria(group: Group) -> list[Plain]:
    """Name, and the kinds of prompts that it is scored on."""
    return [{"name": each.name, "kinds": " and ".join(each.prompt_kinds) or "all"} for each in group.criteria]


def _describe_seeds(row: PolicyScores, axes: tuple[str, str]) -> Plain:
    spreads = {name: row.over_seeds[name].deviation for name in row.by_criterion}
    points = [
        {"seed": seed.policy.policy.seed, "rates": [seed.rate(name).value for name in axes]} for seed in row.seeds
    ]
    return {"spreads": spreads, "seeds": points}
