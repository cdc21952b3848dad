"""Preference data made for this project: benign and risky everyday questions in the schema of PKU-SafeRLHF.

Every topic lists benign and risky subjects, each with its own answers. A subject belongs to exactly one part: policies
learn on `train`, the scorer on `judge`, both are measured on `heldout`, and `prompts` is for evaluation only.
"""

import functools
import random
from collections.abc import Iterator
from importlib import resources
from typing import Any

import yaml

Row = dict[str, Any]

#: Subjects of ten per topic and kind that go to each part, in this order.
SUBJECTS = {"train": 4, "judge": 2, "heldout": 1, "prompts": 3}
#: Parts that hold preference rows, with how many rows each subject gives.
PARTS = {"train": 2, "judge": 3, "heldout": 2}

#: (chosen for helpfulness, the other, is the first also the safer one) by kind, with weights. Risky subjects mostly
#: set the criteria against each other; benign ones teach that a refusal is not safer where nothing is at risk.
RISKY_PAIRS = (
    (("compliances", "refusals", False), 6),
    (("compliances", "bare_refusals", False), 1),
    (("refusals", "bare_refusals", True), 1),
    (("compliances", "shrugs", False), 1),
    (("refusals", "shrugs", True), 1),
)
BENIGN_PAIRS = (
    (("answers", "needless_refusals", True), 6),
    (("answers", "vague", True), 2),
    (("answers", "careless", True), 2),
)
UNSAFE = {"compliances", "shrugs", "careless"}


def generate_rows(part: str, seed: int) -> list[Row]:
    """Return the rows of one part, in seeded order, in the schema of PKU-SafeRLHF-30K plus `category` and `kind`.

    Args:
        part: `train`, `judge` or `heldout`.
        seed: of the split into parts, of wordings and of pairings; the same seed gives the same rows.
    """
    rng = random.Random(f"{part}-{seed}")
    by_subject = []
    for topic, kind, subject in _subjects(part, seed):
        wordings = rng.sample(_frames()["asks"], PARTS[part])
        pairs = _draw_pairs(rng, kind, PARTS[part])
        by_subject.append([_row(rng, topic, kind, subject, *drawn) for drawn in zip(wordings, pairs, strict=True)])
    rows = []
    for rows_once in zip(*by_subject, strict=True):  # all subjects once, then all once more: `max_rows` keeps them all
        rows += rng.sample(rows_once, len(rows_once))
    return rows


def generate_prompts(seed: int) -> list[Row]:
    """Return evaluation prompts, benign and risky in turn: `prompt_id`, `prompt`, `kind`, `category`."""
    rng = random.Random(f"prompts-{seed}")
    by_kind: dict[str, list[Row]] = {"benign": [], "risky": []}
    for topic, kind, subject in _subjects("prompts", seed):
        number = sum(row["category"] == topic for row in by_kind[kind])
        prompt = _fill(rng.choice(_frames()["asks"]), subject)
        row = {"prompt_id": f"{topic}-{kind}-{number}", "prompt": prompt, "kind": kind, "category": topic}
        by_kind[kind].append(row)
    for rows in by_kind.values():
        rng.shuffle(rows)
    return [row for pair in zip(by_kind["benign"], by_kind["risky"], strict=True) for row in pair]


def _subjects(part: str, seed: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield (topic, kind, subject) of one part; the split depends on the seed and the topic alone."""
    start = sum(count for name, count in SUBJECTS.items() if list(SUBJECTS).index(name) < list(SUBJECTS).index(part))
    for topic in _topics():
        for kind in ("benign", "risky"):
            subjects = list(topic[kind])
            random.Random(f"split-{seed}-{topic['topic']}-{kind}").shuffle(subjects)
            for subject in subjects[start : start + SUBJECTS[part]]:
                yield topic["topic"], kind, subject


def _draw_pairs(rng: random.Random, kind: str, count: int) -> list[tuple[str, str, bool]]:
    """Draw `count` different pairings for one subject."""
    pairs, weights = zip(*(RISKY_PAIRS if kind == "risky" else BENIGN_PAIRS), strict=True)
    drawn: list[tuple[str, str, bool]] = []
    while len(drawn) < count:
        pair = rng.choices(pairs, weights)[0]
        if pair not in drawn:
            drawn.append(pair)
    return drawn


def _row(
    rng: random.Random, topic: str, kind: str, subject: dict[str, str], wording: str, pair: tuple[str, str, bool]
) -> Row:
    better, other, is_better_safer = pair
    names = [better, other]
    if rng.random() < 0.5:
        names.reverse()
    better_id = names.index(better)
    return {
        "prompt": _fill(wording, subject),
        "response_0": draw_response(rng, names[0], subject),
        "response_1": draw_response(rng, names[1], subject),
        "is_response_0_safe": names[0] not in UNSAFE,
        "is_response_1_safe": names[1] not in UNSAFE,
        "better_response_id": better_id,
        "safer_response_id": better_id if is_better_safer else 1 - better_id,
        "category": topic,
        "kind": kind,
    }


def draw_response(rng: random.Random, name: str, subject: dict[str, str]) -> str:
    """Return a response of the kind `name`; those that say nothing in particular (vague, shrugs) need no subject."""
    frames = _frames()
    if name in ("vague", "careless"):
        text = subject["careless"] if name == "careless" else rng.choice(frames["vague"])
        return _fill(rng.choice(frames["answers"]), {"answer": text})
    if name == "shrugs":
        return _fill(rng.choice(frames["compliances"]), {"comply": rng.choice(frames["shrugs"])})
    return _fill(rng.choice(frames[name]), subject)


def _fill(frame: str, subject: dict[str, str]) -> str:
    values = dict(subject)
    values |= {name.capitalize(): text[:1].upper() + text[1:] for name, text in subject.items()}
    values |= {name: text[:1].lower() + text[1:] for name, text in subject.items() if name in ("answer", "comply")}
    return frame.format(**values)


@functools.cache
def _frames() -> dict[str, list[str]]:
    frames: dict[str, list[str]] = _read("frames.yaml")
    return frames


@functools.cache
def _topics() -> list[dict[str, Any]]:
    folder = resources.files(__package__) / "topics"
    return [
        _read(f"topics/{name}") for name in sorted(path.name for path in folder.iterdir() if path.name[-5:] == ".yaml")
    ]


def _read(name: str) -> Any:
    return yaml.load((resources.files(__package__) / name).read_text("utf-8"), Loader=yaml.CSafeLoader)
