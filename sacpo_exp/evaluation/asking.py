"""Judges that are asked in words: every question of an evaluation once, through the ledger."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sacpo_exp.config.data import PromptsSource
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.evaluation.contests import Contest, Entrant, judgments_artifact
from sacpo_exp.evaluation.entrants import hash_answers, locate_responses
from sacpo_exp.evaluation.judges.costs import CostEstimate, estimate, find_price
from sacpo_exp.evaluation.judges.credentials import find_base_url
from sacpo_exp.evaluation.judges.parsing import PARSER_VERSION, read_refusal, read_scores
from sacpo_exp.evaluation.judges.questions import Template, load_template, pair_questions, refusal_question
from sacpo_exp.evaluation.judges.sharing import select_open
from sacpo_exp.evaluation.judges.verdicts import call_tie, combine, compare, make_record
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question
from sacpo_exp.evaluation.records import RESPONSES, VERDICTS, read_by_prompt, write_records
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run
from sacpo_exp.store import content_hash

log = logging.getLogger(__name__)

LEDGER = "ledger.sqlite"
Match = tuple[Entrant, Entrant]
#: Responses artifact → prompt id → its record.
Said = Mapping[str, Mapping[str, Mapping[str, Any]]]
REFUSAL = "refusal"


class Inquiry:
    """All questions about one match, by prompt id and criterion; none about equal responses."""

    def __init__(self, run: Run, contest: Contest, match: Match, judge: OpenAIJudgeConfig, said: Said) -> None:
        self.match = match
        self.said = [said[entrant.responses.id] for entrant in match]
        template, url = load_template(judge.template, contest.criteria), find_base_url(judge)
        is_about_refusals = asks_about_refusals(run)
        self.questions: dict[tuple[str, str], list[Question]] = {}
        for prompt in contest.prompts:
            ours, theirs = (responses[prompt["prompt_id"]]["response"] for responses in self.said)
            if is_about_refusals:
                self.questions[prompt["prompt_id"], REFUSAL] = [refusal_question(template, prompt, ours, judge, url)]
                continue
            for criterion in criteria_of(prompt, contest.criteria):
                asked = (
                    pair_questions(template, [criterion], prompt, ours, theirs, judge, url) if ours != theirs else []
                )
                self.questions[prompt["prompt_id"], criterion.name] = asked

    def all(self) -> Iterator[Question]:
        for questions in self.questions.values():
            yield from questions


def asks_about_refusals(run: Run) -> bool:
    """Whether a judge is asked if responses comply, instead of which one is better."""
    return run.config.prompts.source == PromptsSource.xstest


def check_texts(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> None:
    """Raise ConfigError for a criterion that will be asked about and has no text in the template."""
    template = load_template(judge.template, contest.criteria)
    asked = [REFUSAL] if asks_about_refusals(run) else []
    asked += (
        [] if asked else [each.text for prompt in contest.prompts for each in criteria_of(prompt, contest.criteria)]
    )
    for name in dict.fromkeys(asked):
        template.version(name)


def criteria_of(prompt: Mapping[str, Any], criteria: Iterable[Criterion]) -> list[Criterion]:
    """What a prompt counts for: nothing else is worth a call."""
    return [criterion for criterion in criteria if criterion.counts(prompt.get("kind"))]


def judge_by_asking(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> list[Path]:
    """Verdicts of every match, once all questions have a record; of none while a batch is under way.

    Raises:
        ConfigError, JudgeError: the judge can't be asked, or was stopped; what it has answered is kept.
    """
    from sacpo_exp.evaluation.judges.openai_judge import ask

    check_texts(run, contest, judge)
    said = {e.responses.id: read_by_prompt(locate_responses(run, e) / RESPONSES) for e in contest.entrants}
    inquiries, questions = _inquire(run, contest, judge, said)
    with Ledger(Path(run.config.paths.outputs) / LEDGER, run.config.ledger.journal) as ledger:
        if waiting := ask(list(questions.values()), judge, ledger):
            log.info("waiting  for %d of %d judgments; come back with the same command", waiting, len(questions))
            return []
        answers = ledger.find(questions)
    key = identify(judge, contest.criteria)
    labels = {
        "judge_id": key,
        "judge_key": key,
        "answers": hash_answers(run, contest),
        "has_zero": [],
    }
    return [_store_verdicts(run, contest, inquiry, judge, answers, labels) for inquiry in inquiries]


def _inquire(
    run: Run, contest: Contest, judge: OpenAIJudgeConfig, said: Said
) -> tuple[list[Inquiry], dict[str, Question]]:
    """What is to be asked, by match, and every question once, by key."""
    inquiries = [Inquiry(run, contest, match, judge, said) for match in contest.matches(run.config.matches)]
    return inquiries, {question.key: question for inquiry in inquiries for question in inquiry.all()}


def estimate_calls(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> dict[str, CostEstimate]:
    """What asking would cost at most, by match; where a policy has not answered yet, with the longest responses.

    The keys are the same in every command that would ask the same.
    """
    said = {entrant.responses.id: _foresee(run, contest, entrant) for entrant in contest.entrants}
    inquiries, questions = _inquire(run, contest, judge, said)
    path = Path(run.config.paths.outputs) / LEDGER
    known: Mapping[str, Answer] = {}
    if path.is_file():
        with Ledger(path, run.config.ledger.journal) as ledger:
            known = ledger.find(questions)
    unasked = {question.key: question for question in select_open(questions, known, judge)}
    costs = {}
    for inquiry in inquiries:
        own = [found for question in inquiry.all() if (found := unasked.pop(question.key, None))]
        key = content_hash([identify(judge, contest.criteria), *(entrant.responses.hash for entrant in inquiry.match)])
        costs[key] = estimate(own, judge)
    return costs


def estimate_prompt(run: Run, prompt: Mapping[str, Any], judge: OpenAIJudgeConfig) -> CostEstimate:
    """What it would take at most to ask about one policy on one prompt, with the longest responses."""
    one, other = (letter * 4 * run.config.generation.max_new_tokens for letter in "ab")
    criteria = evaluated_criteria(run.config)
    template, url = load_template(judge.template, criteria), find_base_url(judge)
    return estimate(pair_questions(template, criteria_of(prompt, criteria), prompt, one, other, judge, url), judge)


def _foresee(run: Run, contest: Contest, entrant: Entrant) -> dict[str, dict[str, Any]]:
    if entrant.folder or run.store.has(entrant.responses):
        return read_by_prompt((entrant.folder or run.store.path(entrant.responses)) / RESPONSES)
    # Four characters a token, as the estimate counts; begun with the id so that no two policies say the same.
    text = entrant.responses.id.ljust(4 * run.config.generation.max_new_tokens, ".")
    return {prompt["prompt_id"]: {"response": text} for prompt in contest.prompts}


def _store_verdicts(
    run: Run,
    contest: Contest,
    inquiry: Inquiry,
    judge: OpenAIJudgeConfig,
    answers: Mapping[str, Answer],
    labels: dict[str, Any],
) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        records = [_make_record(prompt, contest, inquiry, answers) for prompt in contest.prompts]
        write_records(folder / VERDICTS, records)
        price = find_price(judge)
        return {"n": len(records), "price": asdict(price) if price else None, "prices": _read_prices(judge)}

    keys = sorted(question.key for question in inquiry.all())
    # The answers are part of the identity: those asked again, after a failure, make another artifact.
    said = content_hash([[key, answers[key].raw, answers[key].state.value, answers[key].finish_reason] for key in keys])
    parents = tuple(entrant.responses.id for entrant in inquiry.match)
    recipe = {"answers": said, "parser": PARSER_VERSION, "judge": labels["judge_id"]}
    return run.store.get_or_build(judgments_artifact(contest, inquiry.match, judge, labels, recipe, parents), build)


def identify(judge: OpenAIJudgeConfig, criteria: Sequence[Criterion]) -> str:
    """Model and hash of the protocol: verdicts of two protocols are never compared."""
    template: Template = load_template(judge.template, criteria)
    names = ("model", "repeats", "temperature", "max_tokens", "seed", "reasoning_effort", "min_score", "max_score")
    protocol = {name: getattr(judge, name) for name in names}
    protocol["response_format"] = judge.response_format.value
    protocol |= {"base_url": find_base_url(judge), "template": template.texts}
    return f"{judge.model}-{content_hash(protocol)[:10]}"


def _read_prices(judge: OpenAIJudgeConfig) -> dict[str, Any]:
    return {"read": judge.prices.read, "batch_factor": judge.prices.batch_factor}


def _make_record(
    prompt: dict[str, Any], contest: Contest, inquiry: Inquiry, answers: Mapping[str, Answer]
) -> dict[str, Any]:
    prompt_id = prompt["prompt_id"]
    ours, theirs = (responses[prompt_id] for responses in inquiry.said)
    record = make_record(prompt, ours, theirs)
    for criterion in contest.criteria:
        asked = inquiry.questions.get((prompt_id, criterion.name))
        record[criterion.name] = asked if asked is None else _decide(asked, ours["response"], answers)
    if asked := inquiry.questions.get((prompt_id, REFUSAL)):
        answer = answers[asked[0].key]
        reading = read_refusal(answer.raw, answer.finish_reason) if answer.raw is not None else None
        state = reading.state if reading else answer.state
        record[REFUSAL] = {"state": state.value, "label": reading and reading.label} | _usage(asked[0], answer)
    return record


def _decide(asked: list[Question], response: str, answers: Mapping[str, Answer]) -> dict[str, Any]:
    if not asked:
        return call_tie()
    singles = []
    for question in asked:
        answer, is_first = answers[question.key], question.first == response
        single = {"is_first": is_first, "repeat": question.repeat} | _usage(question, answer)
        if answer.raw is None:
            singles.append(single | {"state": answer.state.value})
            continue
        reading = read_scores(answer.raw, answer.finish_reason, question.scale, question.criterion)
        if reading.scores is None:
            singles.append(single | {"state": reading.state.value})
            continue
        first, second = reading.scores
        singles.append(single | (compare(first, second) if is_first else compare(second, first)))
    return combine(singles)


def _usage(question: Question, answer: Answer) -> dict[str, Any]:
    """What a judgment cost, under the key by which it is counted once however many policies share it."""
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "attempts", "via")
    return {"key": question.key} | {name: getattr(answer, name) for name in names}
