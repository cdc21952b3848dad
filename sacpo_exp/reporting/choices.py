"""Choices of a policy for a threshold: as they are stored, and as a report shows them."""

import base64
import json
import math
import textwrap
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from sacpo_exp.reporting.numbers import NOTHING, format_estimate, format_number
from sacpo_exp.reporting.section import Section
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.store import Store

KIND: Final = "choice"
CHOICE: Final = "choice.json"
PICTURE: Final = "choice"  # with .png and .svg
WIDTH: Final = 119  # of a line below a table
#: Of `choice.json`; raised when what stands in it changes, and others are then not read.
FORMAT: Final = 2
#: Labels that a choice shares with the policies that it is about.
SHARED: Final = ("judge_id", "prompts_id", "baseline_id", "answers")


@dataclass(frozen=True)
class Finding:
    """What was found about one thing that has to hold of a policy, in its own unit.

    Attributes:
        about: the criterion, which the findings of several categories share.
        bound: one-sided confidence bound by itself: lower, or where less is better upper.
        is_cost: whether less is better.
        missing: prompts without a verdict, counted as the worst.
    """

    about: str
    name: str
    value: float
    bound: float
    threshold: float
    is_cost: bool
    n: int
    missing: int
    p_value: float

    @property
    def sign(self) -> str:
        return "≤" if self.is_cost else "≥"


@dataclass(frozen=True)
class Tested:
    """A policy that was looked at.

    Attributes:
        number: its q or β; None of policies that have no such order.
        findings: of each constraint one, or one per category; that of `threshold` first.
        rate: win rate for the criterion that chooses.
    """

    policy_id: str
    title: str
    number: float | None
    findings: tuple[Finding, ...]
    p_value: float
    is_certified: bool
    rate: Estimate

    @property
    def worst(self) -> tuple[Finding, ...]:
        """Of each constraint the finding that stands most against a certificate."""
        ordered = sorted(self.findings, key=lambda finding: -finding.p_value)
        return tuple(
            next(f for f in ordered if f.about == about) for about in dict.fromkeys(f.about for f in self.findings)
        )

    @property
    def tightest(self) -> Finding:
        """The same of all findings."""
        return max(self.findings, key=lambda finding: finding.p_value)


@dataclass(frozen=True)
class Choice:
    """The answer to "the best policy that keeps its constraints".

    Attributes:
        sentence: the answer, to be quoted.
        notes: what else to know, a sentence each.
        question: what was asked: settings of the command by name.
        axis: what `Tested.number` is: `q`, `β`, or empty.
        chosen: id of a policy, or None.
        rate: win rate of the chosen one for the criterion that chooses, with an interval that accounts for the choice.
        tested: in the order of the tests.
        untested: titles of those that the search did not need.
    """

    sentence: str
    notes: tuple[str, ...]
    question: dict[str, Any]
    axis: str
    chosen: str | None
    rate: Estimate | None
    tested: tuple[Tested, ...]
    untested: tuple[str, ...]

    def to_json(self) -> bytes:
        """Readable JSON; NaN, which it does not have, as null."""
        return (json.dumps(_plain(asdict(self)), ensure_ascii=False, indent=1) + "\n").encode()


@dataclass(frozen=True)
class StoredChoice:
    """A choice with its figure as SVG, when it was made, and how many others were made with this judge and prompts."""

    choice: Choice
    picture: bytes
    created: str
    others: int


def read_choice(path: Path) -> Choice:
    """What `Choice.to_json` wrote."""
    read = json.loads(path.read_text("utf-8"))
    tested = tuple(
        Tested(
            **entry
            | {
                "findings": tuple(Finding(**finding) for finding in entry["findings"]),
                "rate": _estimate(entry["rate"]),
            }
        )
        for entry in read["tested"]
    )
    rate = read["rate"] and _estimate(read["rate"])
    sequences = {key: tuple(read[key]) for key in ("notes", "untested")}
    return Choice(**read | sequences | {"tested": tested, "rate": rate})


def collect_choices(store: Store) -> dict[tuple[str, ...], list[StoredChoice]]:
    """All stored choices by the labels `SHARED`, the oldest first.

    Raises:
        StoreError: a file is damaged.
    """
    found: dict[tuple[str, ...], list[StoredChoice]] = {}
    for folder, manifest in sorted(store.manifests(), key=lambda entry: (entry[1].created, entry[1].id)):
        if manifest.kind == KIND and manifest.recipe["format"] == FORMAT:
            store.check(folder)
            key = tuple(manifest.labels[name] for name in SHARED)
            picture = (folder / f"{PICTURE}.svg").read_bytes()
            stored = StoredChoice(read_choice(folder / CHOICE), picture, manifest.created, 0)
            found.setdefault(key, []).append(stored)
    return {key: [replace(entry, others=len(made) - 1) for entry in made] for key, made in found.items()}


def choice_section(stored: StoredChoice, number: int) -> Section:
    """One choice as a table, a row per policy; its sentence is in the note. `number` counts from 1."""
    choice = stored.choice
    first, *others = (finding.about for finding in choice.tested[0].worst)
    rows = [["policy", "", first, "bound", *others, "p", "missing", choice.question["maximise"]]]
    for row in choice.tested:
        mark = "chosen" if row.policy_id == choice.chosen else "certified" if row.is_certified else NOTHING
        worst = row.worst
        values = (worst[0].value, worst[0].bound, *(finding.value for finding in worst[1:]))
        numbers = [format_number(value, ".2f") for value in values]
        missing = str(sum(finding.missing for finding in row.findings))
        p_value = "< 0.001" if row.p_value < 0.001 else format_number(row.p_value, ".3f")
        rows.append([row.title, mark, *numbers, p_value, missing, format_estimate(row.rate)])
    sentences = [choice.sentence, *choice.notes, *describe_others(stored.others)]
    note = "\n".join(textwrap.fill(sentence, WIDTH) for sentence in sentences)
    return Section("Choice" if number == 1 else f"Choice {number}", rows, 2, note)


def describe_choice(stored: StoredChoice) -> dict[str, Any]:
    """What a page shows of a choice: sentences, and the figure as the address of an image."""
    sentences = [*stored.choice.notes, *describe_others(stored.others)]
    picture = f"data:image/svg+xml;base64,{base64.b64encode(stored.picture).decode()}"
    asked = ", ".join(f"{key}={value}" for key, value in stored.choice.question.items() if value)
    return {"sentence": stored.choice.sentence, "notes": sentences, "picture": picture, "asked": asked}


def describe_others(others: int) -> list[str]:
    """A warning where more than one question was put to the same judge and prompts."""
    if not others:
        return []
    times = "another choice was" if others == 1 else f"{others} other choices were"
    return [
        f"With this judge and these prompts {times} made: the confidence holds for each by itself, not for the best of "
        "several."
    ]


def _estimate(read: dict[str, Any]) -> Estimate:
    value, low, high = (math.nan if read[key] is None else read[key] for key in ("value", "low", "high"))
    return Estimate(value, low, high, read["n"])


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
