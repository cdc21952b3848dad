"""Import judgments of the paper's code (https://github.com/line/sacpo) as evaluations of ours."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.config.schema import JudgeConfig, JudgeKind
from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.files import RawRows, find_files, read_object, read_raw
from sacpo_exp.data.prompts import Entry, number_prompts, read_rows
from sacpo_exp.data.responses import ImportedResponses
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.contests import Contest, Entrant, judgments_artifact, store_responses
from sacpo_exp.evaluation.judges.questions import PARSER_VERSION, read_scores
from sacpo_exp.evaluation.records import VERDICTS, State, call_tie, combine, compare, make_record, store_records
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.published import read_published
from sacpo_exp.reporting.tables import format_estimate
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.statistics.win_rate import count_states, estimate_win_rate
from sacpo_exp.store import Store, content_hash

#: The paper's names of criteria: ours, and the least and greatest score that its prompts allow.
CRITERIA: Final = {"helpfulness": (HELPFULNESS, (1.0, 10.0)), "harmlessness": (SAFETY, (0.0, 10.0))}
SCALES: Final = dict(CRITERIA.values())
Numbers = list[Annotated[float, Field(allow_inf_nan=False)]]


class Row(BaseModel):
    """A question, the answers of two models in the order in which the judge saw them, and every judgment of them.

    Both scores of a judgment are 0 where the call failed or its text was not understood; `gpt_content` is null where
    the call failed.
    """

    model_config = ConfigDict(strict=True)
    criteria: Literal["helpfulness", "harmlessness"]
    question: str
    model1: str
    model2: str
    answer1: str
    answer2: str
    score1: Numbers
    score2: Numbers
    gpt_content: list[str | None]

    @property
    def criterion(self) -> str:
        return CRITERIA[self.criteria][0]

    @property
    def models(self) -> tuple[str, str]:
        return self.model1, self.model2

    def scores_of(self, model: str) -> list[tuple[float, float]]:
        """Return (own, other) score of every judgment, from the side of `model`."""
        own, other = (self.score1, self.score2) if model == self.model1 else (self.score2, self.score1)
        return list(zip(own, other, strict=True))


@dataclass(frozen=True)
class Match:
    """A policy's stored verdict records against an opponent, and the rows that they come from."""

    policy: str
    opponent: str
    rows: Sequence[Row]
    records: list[dict[str, Any]]
    is_new: bool


def read_results(paths: Iterable[str]) -> list[Entry[Row]]:
    """Return the judgments of all files, and of all files in the folders, among `paths`.

    Raises:
        DataError: a file can't be read, has another form, or has rows that can't be used, with their numbers.
    """
    judgments = []
    for file in dict.fromkeys(file.resolve() for path in paths for file in find_files(path)):
        where = str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
        raw = RawRows(where, []) if (whole := read_object(file, where)) else read_raw(file, where)
        if whole or (raw.rows and not any(isinstance(row, dict) and "criteria" in row for _, row in raw.rows)):
            raise DataError(
                f"{where} is no judgment file of the paper's code (rows with `criteria`, `question`, `model1`, …). "
                "Generations and responses of another form: sacpo eval responses=[FILE,FILE]"
            )
        judgments += read_rows(raw, _read_row)
    return judgments


def _read_row(value: Any) -> Row:
    check_object(value)
    try:
        row = Row.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        text = "is missing" if problem["type"] == "missing" else f"is wrong: {problem['msg']}"
        raise BadRowError(str(problem["loc"][0]), text) from error
    row.model1, row.model2 = printable(row.model1), printable(row.model2)
    for name in ("question", "model1", "model2"):
        check_text(getattr(row, name), name)
    if row.model1 == row.model2:
        raise BadRowError("model2", f"must be another model than `model1`, but both are {show(row.model1)}")
    counts = [len(row.score1), len(row.score2), len(row.gpt_content)]
    if len(set(counts)) > 1:
        raise BadRowError(None, f"must have as many values in `score1`, `score2` and `gpt_content`, but has {counts}")
    return row


def gather_answers(judgments: Sequence[Entry[Row]]) -> list[ImportedResponses]:
    """Return all answers of every model, sorted by the model's name.

    A prompt that was judged for one criterion only is of the kind on which that criterion is scored.
    """
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    kinds, known = defaultdict[str, set[str]](set), shipped_criteria()
    problems = []
    for entry in judgments:
        row = entry.value
        kinds[row.question].update(known[row.criterion].prompt_kinds)
        for name, answer in zip(row.models, (row.answer1, row.answer2), strict=True):
            if answers[name].setdefault(row.question, answer) != answer:
                problem = f"has another answer of {name} than an earlier row or file to {show(row.question)}"
                problems.append((entry.where, entry.number, problem))
    if problems:
        raise DataError(list_problems(problems))

    def describe(text: str) -> Entry[dict[str, Any]]:
        (kind,) = kinds[text] if len(kinds[text]) == 1 else (None,)
        return Entry("", 0, {"prompt_id": None, "prompt": text, "kind": kind, "category": None})

    return [
        ImportedResponses(name, number_prompts(map(describe, texts)), list(texts.values()))
        for name, texts in sorted(answers.items())
    ]


def store_matches(store: Store, judgments: Sequence[Entry[Row]], baseline: str, judge: str) -> list[Match]:
    """Store the responses of every model and the verdicts of every match, the baseline's with itself first.

    Raises:
        ConfigError: no row is about the baseline.
        DataError: two rows judge the same, or a model has two answers to one prompt.
    """
    answers, matches = gather_answers(judgments), _group_rows(judgments, baseline)
    if baseline not in (judged_models := [each.name for each in answers]):
        known = ", ".join(judged_models)
        raise ConfigError(f"`baseline` must name one of the judged models ({known}), but is {baseline}.")
    entrants = add_lineages({each.name: store_responses(store, each) for each in answers}, baseline)
    by_text = {prompt["prompt"]: prompt for each in answers for prompt in each.prompts}
    prompts = sorted(by_text.values(), key=lambda prompt: str(prompt["prompt_id"]))
    criteria = tuple(shipped_criteria()[name] for name in SCALES)
    prompts_id = content_hash(prompts)
    contest = Contest(prompts, "imported", prompts_id, entrants[baseline], tuple(entrants.values()), criteria)
    judge_id = f"{judge}-{content_hash({'imported': judge})[:10]}"
    texts = {each.name: {p["prompt"]: r for p, r in zip(each.prompts, each.responses, strict=True)} for each in answers}
    own = content_hash([[prompt["prompt_id"], texts[baseline].get(prompt["prompt"])] for prompt in prompts])
    labels = {"judge_id": judge_id, "answers": own, "has_zero": [], "judge_key": judge_id}
    config = JudgeConfig(name=judge, kind=JudgeKind.openai)
    stored = []
    for names, rows in matches.items():
        judged = rows or [entry.value for entry in judgments]  # the baseline ties with itself where others were judged
        records = list(_make_records(prompts, judged, names, texts))
        match = (entrants[names[0]], entrants[names[1]])
        content = content_hash(sorted(content_hash(row.model_dump()) for row in rows))
        recipe = {"imported": content, "parser": PARSER_VERSION, "judge": judge_id}
        parents = tuple(entrant.responses.id for entrant in match)
        spec = judgments_artifact(contest, match, config, labels, recipe, parents)
        is_new = not store.has(spec)
        store_records(store, spec, VERDICTS, partial(list, records))
        stored.append(Match(*names, rows, records, is_new))
    return stored


def _group_rows(judgments: Sequence[Entry[Row]], baseline: str) -> dict[tuple[str, str], list[Row]]:
    """Return rows by (policy, opponent); the baseline is always the opponent, else the earlier name is."""
    matches: dict[tuple[str, str], list[Row]] = defaultdict(list, {(baseline, baseline): []})
    first: dict[Any, Entry[Row]] = {}
    problems = []
    for entry in judgments:
        row = entry.value
        earlier = first.setdefault((row.criterion, row.question, row.models), entry)
        if earlier is not entry:
            problems.append((entry.where, entry.number, f"judges the same as row {earlier.number} of {earlier.where}"))
        opponent, policy = sorted(row.models, key=lambda name: (name != baseline, name))
        matches[policy, opponent].append(row)
    if problems:
        raise DataError(list_problems(problems))
    return dict(sorted(matches.items(), key=lambda item: (item[0][0] != baseline, item[0][1] != baseline, item[0])))


def _make_records(
    prompts: Sequence[dict[str, Any]],
    rows: Sequence[Row],
    names: tuple[str, str],
    texts: Mapping[str, Mapping[str, str]],
) -> Iterator[dict[str, Any]]:
    """Yield the verdict records of one match."""
    policy, opponent = names
    by_prompt: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_prompt[row.question][row.criterion] += [] if policy == opponent else read_singles(row, policy)
    for prompt in prompts:
        text = prompt["prompt"]
        if text not in by_prompt or text not in texts[policy]:
            continue
        sides = [{"response": texts[name][text], "n_tokens": None, "finish_reason": None} for name in names]
        verdicts: dict[str, Any] = dict.fromkeys(SCALES)
        for name, singles in by_prompt[text].items():
            verdicts[name] = call_tie() if policy == opponent else combine(singles)
        yield make_record(prompt, *sides) | verdicts


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
            state, scores = read_scores(text, None, scale) if (text or "").strip() else (State.failed, None)
        single: dict[str, Any] = {"is_first": row.model1 == policy, "repeat": repeat}
        if state != State.ok or scores is None:
            yield single | {"state": state.value}
            continue
        own, other = scores if row.model1 == policy else scores[::-1]
        yield single | compare(own, other) | ({"is_reread": True} if scores != recorded else {})


def count_as_original(rows: Iterable[Row], policy: str) -> float | None:
    """Return the policy's win rate in rows of one match as the paper's code computes it; None without judgments.

    For each repeat it is the share of all rows, of both orders, that the policy wins, with equal scores as half, also
    those of failures, which are 0 and 0; then the mean over the repeats.
    """
    outcomes: dict[int, list[float]] = defaultdict(list)
    for row in rows:
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
        described[name] = replace(entrants[name], responses=replace(entrants[name].responses, labels=labels))
    return described


def summarise(matches: Sequence[Match]) -> Iterator[str]:
    """Yield the states of the judgments, and the win rates of every match by both ways of counting."""
    verdicts = [record[name] for match in matches for record in match.records for name in SCALES]
    singles = [single for verdict in verdicts if verdict for single in verdict.get("singles", ())]
    states, new = Counter(single["state"] for single in singles), sum(match.is_new for match in matches)
    reread = sum("is_reread" in single for single in singles)
    yield f"judgments  {', '.join(f'{states[state]} {state}' for state in State)}"
    yield f"           {reread} recorded as 0 and 0 whose text does give scores, which count"
    yield f"matches    {new} new, {len(matches) - new} there already"
    yield "win rates, without prompts of which a whole answer order failed, and with every failed judgment as a tie:"
    for match in matches:
        for criterion in map(shipped_criteria().__getitem__, SCALES):
            counts = count_states(match.records, criterion)
            theirs = count_as_original((row for row in match.rows if row.criterion == criterion.name), match.policy)
            if theirs is not None:
                ours = estimate_win_rate(match.records, criterion, SETTINGS.resampling, SETTINGS.max_missing)
                rates = f"{format_estimate(ours)} and {theirs:.3f}"
                missing = f"{counts.total() - counts['ok']} of {counts.total()} prompts without a verdict"
                yield f"  {match.policy} against {match.opponent}, {criterion.name}: {rates}; {missing}"
