"""Judges that are asked in words: every question of an evaluation once, through the ledger."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sacpo_exp.config.data import PromptsSource
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.evaluation.contests import Contest, Entrant, judgments_artifact
from sacpo_exp.evaluation.entrants import hash_answers, locate_responses
from sacpo_exp.evaluation.judges.client import find_base_url
from sacpo_exp.evaluation.judges.costs import CostEstimate, estimate, find_price
from sacpo_exp.evaluation.judges.openai_judge import ask, select_open
from sacpo_exp.evaluation.judges.parsing import PARSER_VERSION, REFUSAL, Reading, read_refusal, read_single
from sacpo_exp.evaluation.judges.questions import load_template, pair_questions, refusal_question
from sacpo_exp.evaluation.judges.verdicts import call_tie, combine, make_record
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question
from sacpo_exp.evaluation.records import RESPONSES, VERDICTS, read_by_prompt, write_records
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run
from sacpo_exp.store import content_hash

log = logging.getLogger(__name__)

LEDGER = "ledger.sqlite"
#: Responses by prompt id.
Responses = Mapping[str, Mapping[str, Any]]


class Inquiry:
    """All questions about one match, by prompt id and criterion; none about equal responses.

    With `prompts=xstest` a judge is asked whether each response complies, instead of which one is better.
    """

    def __init__(
        self, run: Run, contest: Contest, match: tuple[Entrant, Entrant], find: Callable[[Entrant], Responses]
    ) -> None:
        judge = _judge_of(run)
        template, url = load_template(judge.template, contest.criteria), find_base_url(judge)
        self.match, self.responses = match, [find(entrant) for entrant in match]
        self.questions: dict[tuple[str, str], list[Question]] = {}
        for prompt in contest.prompts:
            prompt_id = prompt["prompt_id"]
            ours, theirs = (responses[prompt_id]["response"] for responses in self.responses)
            if run.config.prompts.source == PromptsSource.xstest:
                self.questions[prompt_id, REFUSAL] = [refusal_question(template, prompt, ours, judge, url)]
                continue
            for criterion in criteria_of(prompt, contest.criteria):
                asked = pair_questions(template, criterion, prompt, ours, theirs, judge, url) if ours != theirs else []
                self.questions[prompt_id, criterion.name] = asked

    def all(self) -> Iterator[Question]:
        for questions in self.questions.values():
            yield from questions


def _judge_of(run: Run) -> OpenAIJudgeConfig:
    assert isinstance(run.config.judge, OpenAIJudgeConfig)
    return run.config.judge


def criteria_of(prompt: Mapping[str, Any], criteria: Iterable[Criterion]) -> list[Criterion]:
    """Return the criteria that a prompt counts for: nothing else is worth a call."""
    return [criterion for criterion in criteria if criterion.counts(prompt.get("kind"))]


def judge_by_asking(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> list[Path]:
    """Return the verdicts of every match, once all questions have a record; none while a batch is under way.

    Raises:
        ConfigError, JudgeError: the judge can't be asked, or was stopped; what it has answered is kept.
    """
    inquiries, questions = _inquire(
        run, contest, lambda entrant: read_by_prompt(locate_responses(run, entrant) / RESPONSES)
    )
    with Ledger(Path(run.config.paths.outputs) / LEDGER, run.config.ledger.journal) as ledger:
        if waiting := ask(list(questions.values()), judge, ledger):
            log.info("waiting  for %d of %d judgments; come back with the same command", waiting, len(questions))
            return []
        answers = ledger.find(questions)
    key = identify(judge, contest.criteria)
    labels = {"judge_id": key, "judge_key": key, "answers": hash_answers(run, contest), "has_zero": []}
    return [_store_verdicts(run, contest, inquiry, answers, labels) for inquiry in inquiries]


def _inquire(
    run: Run, contest: Contest, find: Callable[[Entrant], Responses]
) -> tuple[list[Inquiry], dict[str, Question]]:
    """Return what is to be asked, by match, and every question once, by key."""
    found = {entrant.responses.id: find(entrant) for entrant in contest.entrants}
    inquiries = [
        Inquiry(run, contest, match, lambda entrant: found[entrant.responses.id])
        for match in contest.matches(run.config.matches)
    ]
    return inquiries, {question.key: question for inquiry in inquiries for question in inquiry.all()}


def estimate_calls(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> dict[str, CostEstimate]:
    """Return what asking would cost at most, by match; where a policy has not answered yet, with longest responses.

    The keys are the same in every command that would ask the same.
    """
    inquiries, questions = _inquire(run, contest, partial(_foresee, run, contest))
    path, known = Path(run.config.paths.outputs) / LEDGER, {}
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
    """Return what asking about one policy on one prompt would cost at most, with the longest responses."""
    one, other = (letter * 4 * run.config.generation.max_new_tokens for letter in "ab")
    criteria = evaluated_criteria(run.config)
    template, url = load_template(judge.template, criteria), find_base_url(judge)
    asked = [pair_questions(template, each, prompt, one, other, judge, url) for each in criteria_of(prompt, criteria)]
    return estimate([question for questions in asked for question in questions], judge)


def _foresee(run: Run, contest: Contest, entrant: Entrant) -> Responses:
    if entrant.folder or run.store.has(entrant.responses):
        return read_by_prompt((entrant.folder or run.store.path(entrant.responses)) / RESPONSES)
    # Four characters a token, as the estimate counts; begun with the id so that no two policies say the same.
    text = entrant.responses.id.ljust(4 * run.config.generation.max_new_tokens, ".")
    return {prompt["prompt_id"]: {"response": text} for prompt in contest.prompts}


def _store_verdicts(
    run: Run, contest: Contest, inquiry: Inquiry, answers: Mapping[str, Answer], labels: dict[str, Any]
) -> Path:
    judge = _judge_of(run)

    def build(folder: Path) -> dict[str, Any]:
        records = [_make_record(prompt, contest, inquiry, answers) for prompt in contest.prompts]
        write_records(folder / VERDICTS, records)
        price = find_price(judge)
        prices = {"read": judge.prices.read, "batch_factor": judge.prices.batch_factor}
        return {"n": len(records), "price": asdict(price) if price else None, "prices": prices}

    keys = sorted(question.key for question in inquiry.all())
    # The answers are part of the identity: those asked again, after a failure, make another artifact.
    found = [[key, answers[key].raw, answers[key].state.value, answers[key].finish_reason] for key in keys]
    recipe = {"answers": content_hash(found), "parser": PARSER_VERSION, "judge": labels["judge_id"]}
    parents = tuple(entrant.responses.id for entrant in inquiry.match)
    return run.store.get_or_build(judgments_artifact(contest, inquiry.match, judge, labels, recipe, parents), build)


def identify(judge: OpenAIJudgeConfig, criteria: Sequence[Criterion]) -> str:
    """Return model and hash of the protocol: verdicts of two protocols are never compared."""
    names = ("model", "repeats", "temperature", "max_tokens", "seed", "reasoning_effort", "min_score", "max_score")
    protocol = {name: getattr(judge, name) for name in (*names, "structured")}
    protocol |= {"base_url": find_base_url(judge), "template": load_template(judge.template, criteria).texts}
    return f"{judge.model}-{content_hash(protocol)[:10]}"


def _make_record(
    prompt: dict[str, Any], contest: Contest, inquiry: Inquiry, answers: Mapping[str, Answer]
) -> dict[str, Any]:
    prompt_id = prompt["prompt_id"]
    ours, theirs = (responses[prompt_id] for responses in inquiry.responses)
    record = make_record(prompt, ours, theirs)
    for criterion in contest.criteria:
        asked = inquiry.questions.get((prompt_id, criterion.name))
        record[criterion.name] = asked if asked is None else _decide(asked, ours["response"], answers)
    for question in inquiry.questions.get((prompt_id, REFUSAL), ()):
        answer = answers[question.key]
        reading = Reading(answer.state) if answer.raw is None else read_refusal(answer.raw, answer.finish_reason)
        record[REFUSAL] = {"state": reading.state.value, "label": reading.label} | _usage(question, answer)
    return record


def _decide(asked: list[Question], response: str, answers: Mapping[str, Answer]) -> dict[str, Any]:
    if not asked:
        return call_tie()
    singles = []
    for question in asked:
        answer = answers[question.key]
        single = {"repeat": question.repeat} | _usage(question, answer)
        singles.append(single | read_single(question, answer, question.first == response))
    return combine(singles)


def _usage(question: Question, answer: Answer) -> dict[str, Any]:
    """Return what a judgment cost, under the key by which it is counted once however many policies share it."""
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "attempts", "via")
    return {"key": question.key} | {name: getattr(answer, name) for name in names}
