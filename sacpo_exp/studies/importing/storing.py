"""Put imported responses and judgments into the store, where `report` finds them as any evaluation."""

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.config.schema import JudgeConfig, JudgeKind
from sacpo_exp.data.prompt_sets import Prompt
from sacpo_exp.data.responses import ImportedResponses
from sacpo_exp.evaluation.contests import Contest, Entrant, judgments_artifact
from sacpo_exp.evaluation.entrants import store_responses
from sacpo_exp.evaluation.judges.parsing import PARSER_VERSION
from sacpo_exp.evaluation.judges.verdicts import call_tie, combine, make_record
from sacpo_exp.evaluation.records import VERDICTS, write_records
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.store import Store, content_hash
from sacpo_exp.studies.importing.files import CRITERIA, JudgedPair
from sacpo_exp.studies.importing.joining import Meetings
from sacpo_exp.studies.importing.known import add_lineages
from sacpo_exp.studies.importing.verdicts import read_singles

#: Of what is not said in the files.
UNKNOWN: Final = {"n_tokens": None, "finish_reason": None}
Pairs = Sequence[JudgedPair]


@dataclass(frozen=True)
class Stored:
    """One match in the store.

    Attributes:
        names: of the policy and its opponent.
        pairs: the rows that it was made of; none for the baseline with itself.
        is_new: False where an earlier import has brought it.
    """

    names: tuple[str, str]
    evaluation: Evaluation
    pairs: Pairs
    is_new: bool


def store_meetings(
    store: Store, answers: Sequence[ImportedResponses], meetings: Meetings, baseline: str, judge: str
) -> list[Stored]:
    """Responses of every model, and the verdicts of every match, the baseline's with itself first."""
    entrants = add_lineages({said.name: store_responses(store, said) for said in answers}, baseline)
    texts = {said.name: _by_text(said) for said in answers}
    asked = {(pair.prompt, pair.criterion) for pairs in meetings.values() for pair in pairs}
    contest = _make_contest(entrants, answers, {text for text, _ in asked}, baseline)
    said = [[prompt["prompt_id"], texts[baseline].get(prompt["prompt"])] for prompt in contest.prompts]
    labels = {
        "judge_id": f"{judge}-{content_hash({'imported': judge})[:10]}",
        "answers": content_hash(said),
        "has_zero": [],
    }
    labels["judge_key"] = labels["judge_id"]
    stored = []
    for (policy, opponent), pairs in ({(baseline, baseline): ()} | meetings).items():
        records = []
        for prompt in contest.prompts:
            verdicts = _tie(prompt, asked) if policy == opponent else _judge(prompt, pairs, policy)
            if any(verdicts.values()) and prompt["prompt"] in texts[policy]:
                sides = ({"response": texts[name][prompt["prompt"]]} | UNKNOWN for name in (policy, opponent))
                records.append(make_record(prompt, *sides) | verdicts)
        match = (entrants[policy], entrants[opponent])
        stored.append(_store(store, contest, match, records, judge, labels, pairs))
    return stored


def _make_contest(
    entrants: dict[str, Entrant], answers: Sequence[ImportedResponses], judged: set[str], baseline: str
) -> Contest:
    known = {prompt["prompt"]: prompt for said in answers for prompt in said.prompts if prompt["prompt"] in judged}
    prompts = sorted(known.values(), key=lambda prompt: str(prompt["prompt_id"]))
    shipped = shipped_criteria()
    criteria = tuple(shipped[name] for name in CRITERIA.values())
    return Contest(prompts, "imported", content_hash(prompts), entrants[baseline], tuple(entrants.values()), criteria)


def _by_text(said: ImportedResponses) -> dict[str, str]:
    return {prompt["prompt"]: text for prompt, text in zip(said.prompts, said.responses, strict=True)}


def _judge(prompt: Prompt, pairs: Pairs, policy: str) -> dict[str, Any]:
    """Verdicts on one prompt by criterion; None where it was not judged."""
    singles: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pair in pairs:
        if pair.prompt == prompt["prompt"]:
            singles[pair.criterion] += read_singles(pair, policy)
    return {name: combine(singles[name]) if name in singles else None for name in CRITERIA.values()}


def _tie(prompt: Prompt, asked: Container[tuple[str, str]]) -> dict[str, Any]:
    """The baseline against itself, on what others were judged on."""
    return {name: call_tie() if (prompt["prompt"], name) in asked else None for name in CRITERIA.values()}


def _store(
    store: Store,
    contest: Contest,
    match: tuple[Entrant, Entrant],
    records: list[dict[str, Any]],
    judge: str,
    labels: dict[str, Any],
    pairs: Pairs,
) -> Stored:
    def build(folder: Path) -> dict[str, Any]:
        write_records(folder / VERDICTS, records)
        return {"n": len(records)}

    judged = sorted(content_hash(asdict(pair)) for pair in pairs)
    recipe = {"imported": content_hash(judged), "parser": PARSER_VERSION, "judge": labels["judge_id"]}
    parents = tuple(entrant.responses.id for entrant in match)
    config = JudgeConfig(name=judge, kind=JudgeKind.openai)
    spec = judgments_artifact(contest, match, config, labels, recipe, parents)
    is_new = not store.has(spec)
    store.get_or_build(spec, build)
    return Stored(
        (match[0].name, match[1].name),
        Evaluation(spec.labels, list(records), {}, datetime.now(UTC).isoformat()),
        pairs,
        is_new,
    )
