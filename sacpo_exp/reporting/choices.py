"""Choices of a policy for a threshold: how they are stored, and how a report shows them."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from sacpo_exp.reporting.tables import NOTHING, Row, Section, columns_of, make_section
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.store import Store

KIND: Final = "choice"
CHOICE: Final = "choice.json"
PICTURE: Final = "choice"  # with .png and .svg
FORMAT: Final = 3  # of `choice.json`; files of another format are not read
#: Labels that a choice shares with the policies that it is about.
SHARED: Final = ("judge_id", "prompts_id", "baseline_id", "answers")


@dataclass(frozen=True)
class Finding:
    """Result of one policy for one constraint about a criterion.

    `value` is a mean over n prompts in [0, 1], more being better, and `bound` its lower one-sided confidence bound by
    itself; `missing` prompts without a verdict count as 0.
    """

    about: str
    name: str
    value: float
    bound: float
    threshold: float
    n: int
    missing: int
    p_value: float


@dataclass(frozen=True)
class Tested:
    """A tested policy with its q or β as `number`, a finding per constraint, that of `threshold` first, the largest of
    their p-values, and its win rate for the criterion that selects."""

    policy_id: str
    title: str
    number: float | None  # None in choices of an earlier version
    findings: tuple[Finding, ...]
    p_value: float
    is_certified: bool
    rate: Estimate


@dataclass(frozen=True)
class Choice:
    """The best policy that keeps its constraints, with the settings of the command as `question`.

    Attributes:
        axis: what `Tested.number` is: `q` or `β`.
        chosen: id of a policy, or None.
        rate: win rate of the chosen policy for the criterion that selects, with an interval that allows for the choice.
        tested: in the order of the tests.
        untested: titles of those that the search did not need.
    """

    sentence: str
    question: dict[str, Any]
    axis: str
    chosen: str | None
    rate: Estimate | None
    tested: tuple[Tested, ...]
    untested: tuple[str, ...]

    def to_json(self) -> bytes:
        """Return readable JSON, with NaN as null."""
        return TypeAdapter(Choice).dump_json(self, indent=1) + b"\n"


@dataclass(frozen=True)
class StoredChoice:
    """A choice with its figure as SVG, and how many others were made with this judge and prompts."""

    choice: Choice
    picture: bytes
    others: int


def read_choice(path: Path) -> Choice:
    """Read what `Choice.to_json` wrote."""

    def restore_nan(entry: dict[str, Any]) -> dict[str, Any]:
        numbers = {key: math.nan for key in ("value", "low", "high") if key in entry and entry[key] is None}
        return entry | numbers

    return TypeAdapter(Choice).validate_python(json.loads(path.read_text("utf-8"), object_hook=restore_nan))


def collect_choices(store: Store) -> dict[tuple[str, ...], list[StoredChoice]]:
    """Return all stored choices by the labels `SHARED`, the oldest first.

    Raises:
        StoreError: a file is damaged.
    """
    by_labels: dict[tuple[str, ...], list[StoredChoice]] = defaultdict(list)
    for folder, manifest in sorted(store.manifests(), key=lambda entry: (entry[1].created, entry[1].id)):
        if manifest.kind == KIND and manifest.recipe["format"] == FORMAT:
            store.check(folder)
            stored = StoredChoice(read_choice(folder / CHOICE), (folder / f"{PICTURE}.svg").read_bytes(), 0)
            by_labels[tuple(manifest.labels[name] for name in SHARED)].append(stored)
    return {key: [replace(entry, others=len(made) - 1) for entry in made] for key, made in by_labels.items()}


def choice_section(stored: StoredChoice, number: int) -> Section:
    """Return a choice as a table, a row per policy, its sentence in the note; `number` counts from 1."""
    choice, rows = stored.choice, list[Row]()
    for row in choice.tested:
        mark = "chosen" if row.policy_id == choice.chosen else "certified" if row.is_certified else NOTHING
        cells: Row = {"policy": row.title, "mark": mark, "rate": row.rate, "bound": row.findings[0].bound}
        cells |= {finding.about: finding.value for finding in row.findings}
        cells |= {"p": "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"}
        rows.append(cells | {"missing": sum(finding.missing for finding in row.findings)})
    first, *others = (finding.about for finding in choice.tested[0].findings)
    columns = [("policy", "policy", ""), ("", "mark", "")]
    columns += columns_of(first, "bound", *others, "p", "missing", spec=".2f")
    columns.append((choice.question["maximise"], "rate", ""))
    note = "\n".join([choice.sentence, *describe_others(stored.others)])
    return make_section("Choice" if number == 1 else f"Choice {number}", rows, columns, 2, note)


def describe_others(others: int) -> list[str]:
    """Return a warning where more than one question was asked of the same judge and prompts."""
    times = "another choice was" if others == 1 else f"{others} other choices were"
    note = f"With this judge and these prompts {times} made: the confidence is that of each by itself."
    return [note] if others else []
