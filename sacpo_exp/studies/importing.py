"""Import what the paper's code (https://github.com/line/sacpo) has generated and judged, as evaluations of ours."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.config.schema import JudgeConfig, JudgeKind
from sacpo_exp.data.checks import list_problems
from sacpo_exp.data.prompts import Entry
from sacpo_exp.data.responses import ImportedResponses
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.contests import VERDICTS, Contest, Entrant, judgments_artifact, write_records
from sacpo_exp.evaluation.entrants import store_responses
from sacpo_exp.evaluation.judges.parsing import PARSER_VERSION, read_scores
from sacpo_exp.evaluation.judges.verdicts import call_tie, combine, compare, make_record
from sacpo_exp.evaluation.ledger.records import State
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.published import read_published
from sacpo_exp.reporting.tables import align, format_estimate, format_number
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.statistics.win_rate import count_states, estimate_win_rate
from sacpo_exp.store import Store, content_hash
from sacpo_exp.studies.paper_files import SCALES, Row

NOTE: Final = (
    "Without verdict: a prompt for which a whole answer order failed. Our rates leave it out; the paper's code counts "
    "every\nfailed judgment as a tie. `sacpo report max_missing=1` shows rates that are withheld here."
)


@dataclass(frozen=True)
class Match:
    """A policy's stored verdicts against an opponent, and the rows that they come from."""

    policy: str
    opponent: str
    rows: Sequence[Row]
    evaluation: Evaluation
    is_new: bool


def find_baseline(judgments: Sequence[Entry[Row]], wanted: str | None) -> str:
    """Return the model that win rates are measured against: `wanted`, or the one that met all others.

    Raises:
        ConfigError: `wanted` was not judged, no model met all others, or several did.
    """
    met: dict[str, set[str]] = defaultdict(set)
    for entry in judgments:
        first, second = entry.value.models
        met[first].add(second)
        met[second].add(first)
    names = ", ".join(sorted(met))
    if wanted is not None and wanted not in met:
        raise ConfigError(f"`--baseline` must name one of the judged models ({names}), but is {wanted}.")
    found = [wanted] if wanted is not None else sorted(name for name in met if len(met[name]) == len(met) - 1)
    if len(found) != 1:
        example = found[0] if found else max(sorted(met), key=lambda name: len(met[name]))
        raise ConfigError(
            f"The baseline is not clear: {' and '.join(found) or 'no model'} met all others of {names}. "
            f"Try: --baseline {example}"
        )
    return found[0]


def store_matches(
    store: Store, answers: Sequence[ImportedResponses], judgments: Sequence[Entry[Row]], baseline: str, judge: str
) -> list[Match]:
    """Store the responses of every model and the verdicts of every match, the baseline's with itself first.

    Raises:
        DataError: two rows judge the same.
    """
    matches = {(baseline, baseline): list[Row]()} | _group_rows(judgments, baseline)
    entrants = add_lineages({each.name: store_responses(store, each) for each in answers}, baseline)
    texts = {each.name: _by_text(each) for each in answers}
    judged = {(entry.value.question, entry.value.criterion) for entry in judgments}
    prompts_by_text = {prompt["prompt"]: prompt for each in answers for prompt in each.prompts}
    prompts = sorted(
        (prompts_by_text[text] for text in {text for text, _ in judged}), key=lambda p: str(p["prompt_id"])
    )
    shipped = shipped_criteria()
    criteria = tuple(shipped[name] for name in SCALES)
    contest = Contest(
        prompts, "imported", content_hash(prompts), entrants[baseline], tuple(entrants.values()), criteria
    )
    judge_id = f"{judge}-{content_hash({'imported': judge})[:10]}"
    own = content_hash([[prompt["prompt_id"], texts[baseline].get(prompt["prompt"])] for prompt in prompts])
    labels = {"judge_id": judge_id, "answers": own, "has_zero": [], "judge_key": judge_id}
    stored = []
    for (policy, opponent), rows in matches.items():
        records: list[Mapping[str, Any]] = []
        for prompt in prompts:
            text = prompt["prompt"]
            if policy == opponent:
                verdicts = {name: call_tie() if (text, name) in judged else None for name in SCALES}
            else:
                verdicts = _judge([row for row in rows if row.question == text], policy)
            if any(verdicts.values()) and text in texts[policy]:
                sides = [
                    {"response": texts[name][text], "n_tokens": None, "finish_reason": None}
                    for name in (policy, opponent)
                ]
                records.append(make_record(prompt, *sides) | verdicts)
        match = (entrants[policy], entrants[opponent])
        content = content_hash(sorted(content_hash(row.model_dump()) for row in rows))
        recipe = {"imported": content, "parser": PARSER_VERSION, "judge": judge_id}
        parents = tuple(entrant.responses.id for entrant in match)
        spec = judgments_artifact(
            contest, match, JudgeConfig(name=judge, kind=JudgeKind.openai), labels, recipe, parents
        )

        def build(folder: Path, records: Any = records) -> dict[str, Any]:
            write_records(folder / VERDICTS, records)
            return {"n": len(records)}

        is_new = not store.has(spec)
        store.get_or_build(spec, build)
        evaluation = Evaluation(spec.labels, records, {}, datetime.now(UTC).isoformat())
        stored.append(Match(policy, opponent, rows, evaluation, is_new))
    return stored


def _group_rows(judgments: Sequence[Entry[Row]], baseline: str) -> dict[tuple[str, str], list[Row]]:
    """Return rows by (policy, opponent); the baseline is always the opponent, else the earlier name is."""
    matches: dict[tuple[str, str], list[Row]] = defaultdict(list)
    first: dict[Any, Entry[Row]] = {}
    problems = []
    for entry in judgments:
        row = entry.value
        earlier = first.setdefault((row.criterion, row.question, row.models), entry)
        if earlier is not entry:
            problem = f"judges the same as row {earlier.number} of {earlier.where}"
            problems.append((entry.where, entry.number, problem))
        opponent, policy = sorted(row.models, key=lambda name: (name != baseline, name))
        matches[policy, opponent].append(row)
    if problems:
        raise DataError(list_problems(problems))
    return dict(sorted(matches.items(), key=lambda item: (item[0][1] != baseline, item[0])))


def _by_text(responses: ImportedResponses) -> dict[str, str]:
    return {prompt["prompt"]: text for prompt, text in zip(responses.prompts, responses.responses, strict=True)}


def _judge(rows: Iterable[Row], policy: str) -> dict[str, Any]:
    """Return the verdicts on one prompt by criterion; None where it was not judged."""
    singles: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        singles[row.criterion] += read_singles(row, policy)
    return {name: combine(singles[name]) if name in singles else None for name in SCALES}


def read_singles(row: Row, policy: str) -> Iterator[dict[str, Any]]:
    """Yield the judgments of a row as `combine` reads them, `policy` being one of its models.

    Scores recorded as 0 and 0 are read again from the judge's text: an empty text is a failed call. `is_reread` marks
    the ones that the paper's parser did not understand and ours does.
    """
    low, high = scale = SCALES[row.criterion]
    for repeat, (recorded, text) in enumerate(zip(row.scores_of(row.model1), row.gpt_content, strict=True)):
        scores: tuple[float, float] | None = recorded
        state = State.ok if all(low <= score <= high for score in recorded) else State.unparsed
        if recorded == (0.0, 0.0):
            reading = read_scores(text, None, scale)
            state, scores = (reading.state, reading.scores) if (text or "").strip() else (State.failed, None)
        single: dict[str, Any] = {"is_first": row.model1 == policy, "repeat": repeat}
        if state != State.ok or scores is None:
            yield single | {"state": state.value}
            continue
        own, other = scores if row.model1 == policy else scores[::-1]
        yield single | compare(own, other) | ({"is_reread": True} if scores != recorded else {})


def count_as_original(rows: Iterable[Row], policy: str, opponent: str) -> float | None:
    """Return the policy's win rate against the opponent as the paper's code computes it; None without judgments.

    For each repeat it is the share of all rows, of both orders, that the policy wins, with equal scores as half, also
    those of failures, which are 0 and 0; then the mean over the repeats.
    """
    outcomes: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if set(row.models) == {policy, opponent}:
            for repeat, scores in enumerate(row.scores_of(policy)):
                outcomes[repeat].append(float(compare(*scores)["verdict"]))
    rates = [sum(found) / len(found) for found in outcomes.values()]
    return sum(rates) / len(rates) if rates else None


def add_lineages(entrants: Mapping[str, Entrant], baseline: str) -> dict[str, Entrant]:
    """Return the entrants; those named like policies of the paper get their stages, with the baseline as the model."""
    published = read_published("sacpo_table3", confidence=0.95).rows
    known = {name: row.policy.policy for row in published for name in row.config.also if row.policy.policy.aligned}
    ids = {known[name].hash_without(): each.labels["policy_id"] for name, each in entrants.items() if name in known}
    model = None if baseline in known else read_policy(entrants[baseline].labels[LINEAGE])

    def rebuild(policy: Policy) -> Policy:
        key = policy.hash_without()
        match policy:
            case Aligned():
                return Aligned(ids.get(key, key), rebuild(policy.parent), policy.stage)
            case Merged():
                return Merged(ids.get(key, key), tuple(map(rebuild, policy.policies)), policy.mix)
        return model if isinstance(model, Base) else policy

    described = dict(entrants)
    for name in entrants.keys() & known.keys():
        policy = replace(rebuild(known[name]), id=entrants[name].labels["policy_id"])
        labels = entrants[name].labels | policy.columns | {LINEAGE: policy.to_dict()}
        described[name] = replace(entrants[name], labels=labels)
    return described


def summarise(matches: Sequence[Match]) -> str:
    """Return the states of the judgments, and the win rates of every match by both ways of counting."""
    states: Counter[str] = Counter()
    reread = 0
    table = [
        ["policy", "against", "criterion", "prompts", "without verdict", "win rate", "failure = tie", "difference"]
    ]
    for match in matches:
        records = match.evaluation.records
        for criterion in match.evaluation.criteria:
            singles = [single for record in records for single in (record[criterion.name] or {}).get("singles", ())]
            states.update(single["state"] for single in singles)
            reread += sum("is_reread" in single for single in singles)
            counts = count_states(records, criterion)
            if not counts or match.policy == match.opponent:
                continue
            rows = [row for row in match.rows if row.criterion == criterion.name]
            ours = estimate_win_rate(records, criterion, SETTINGS.resampling, SETTINGS.max_missing)
            theirs = count_as_original(rows, match.policy, match.opponent)
            difference = float("nan") if theirs is None else ours.value - theirs
            numbers = [format_estimate(ours), format_number(theirs, ".3f"), format_number(difference, "+.3f")]
            n = counts.total()
            table.append([match.policy, match.opponent, criterion.name, str(n), str(n - counts["ok"]), *numbers])
    new = sum(match.is_new for match in matches)
    lines = [
        f"judgments  {', '.join(f'{states[state]} {state}' for state in State)}",
        f"           {reread} recorded as 0 and 0 whose text does give scores, which count",
        f"matches    {new} new, {len(matches) - new} there already",
    ]
    return "\n".join([*lines, "", *align(table, 3), NOTE])
