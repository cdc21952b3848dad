"""Judges that are asked in words: every question of an evaluation once, through the ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sacpo_exp.config.data import PromptsSource
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.evaluation.contests import Contest, Entrant, hash_answers, judgments_artifact, read_answers
from sacpo_exp.evaluation.judges.client import find_base_url
from sacpo_exp.evaluation.judges.costs import CostEstimate, estimate
from sacpo_exp.evaluation.judges.openai_judge import ask, select_open
from sacpo_exp.evaluation.judges.originals import describe_wording
from sacpo_exp.evaluation.judges.questions import (
    PARSER_VERSION,
    REFUSAL,
    load_template,
    pair_questions,
    read_label,
    read_single,
    refusal_question,
)
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import (
    RESPONSES,
    VERDICTS,
    Answer,
    Question,
    call_tie,
    combine,
    make_record,
    read_by_prompt,
    store_records,
)
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run
from sacpo_exp.store import content_hash

LEDGER = "ledger.sqlite"
#: Responses by prompt id.
Responses = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Inquiry:
    """All questions about one match.

    Attributes:
        responses: of the policy and of its opponent.
        questions: by prompt id and criterion, for what counts; none about equal responses.
    """

    match: tuple[Entrant, Entrant]
    responses: tuple[Responses, Responses]
    questions: dict[tuple[str, str], list[Question]]

    @property
    def by_key(self) -> dict[str, Question]:
        return {question.key: question for questions in self.questions.values() for question in questions}


def judge_by_asking(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> list[Path]:
    """Return the verdicts of every match, once all questions have a record; raises the errors of `ask`."""
    inquiries = _inquire(run, contest, judge, partial(read_answers, run))
    questions = {key: question for inquiry in inquiries for key, question in inquiry.by_key.items()}
    with Ledger(Path(run.config.paths.outputs) / LEDGER) as ledger:
        ask(list(questions.values()), judge, ledger)
        answers = ledger.find(questions)
    judge_id = identify(judge, contest.criteria)
    labels: dict[str, Any] = {"judge_id": judge_id, "judge_key": judge_id, "answers": hash_answers(run, contest)}
    labels |= {"has_zero": [], "judge_note": describe_wording(judge.template)}
    stored = []
    for inquiry in inquiries:
        # The answers are part of the identity: those asked again, after a failure, make another artifact.
        keys = sorted(question.key for asked in inquiry.questions.values() for question in asked)
        found = [[key, answers[key].raw, answers[key].state.value, answers[key].finish_reason] for key in keys]
        recipe = {"answers": content_hash(found), "parser": PARSER_VERSION, "judge": judge_id}
        parents = tuple(entrant.responses.id for entrant in inquiry.match)
        spec = judgments_artifact(contest, inquiry.match, judge, labels, recipe, parents)
        stored.append(store_records(run.store, spec, VERDICTS, partial(_make_records, contest, inquiry, answers)))
    return stored


def _inquire(
    run: Run, contest: Contest, judge: OpenAIJudgeConfig, find: Callable[[Entrant], Responses]
) -> list[Inquiry]:
    """Return what is to be asked about each match; `find` returns the responses of an entrant.

    With `prompts=xstest` a judge is asked whether each response complies, instead of which one is better.
    """
    texts = load_template(judge.template, contest.criteria)
    found = {entrant.responses.id: find(entrant) for entrant in contest.entrants}
    inquiries = []
    for match in contest.matches(run.config.matches):
        ours, theirs = (found[entrant.responses.id] for entrant in match)
        questions: dict[tuple[str, str], list[Question]] = {}
        for prompt in contest.prompts:
            one, other = (responses[prompt["prompt_id"]]["response"] for responses in (ours, theirs))
            if run.config.prompts.source == PromptsSource.xstest:
                questions[prompt["prompt_id"], REFUSAL] = [refusal_question(texts, prompt, one, judge)]
                continue
            for criterion in contest.criteria:
                if criterion.counts(prompt.get("kind")):  # nothing else is worth a call
                    asked = pair_questions(texts, criterion, prompt, one, other, judge) if one != other else []
                    questions[prompt["prompt_id"], criterion.name] = asked
        inquiries.append(Inquiry(match, (ours, theirs), questions))
    return inquiries


def estimate_calls(run: Run, contest: Contest, judge: OpenAIJudgeConfig) -> dict[str, CostEstimate]:
    """Return what asking would cost at most, by match; where a policy has not answered yet, with longest responses.

    The keys are the same in every command that would ask the same.
    """

    def foresee(entrant: Entrant) -> Responses:
        if entrant.folder or run.store.has(entrant.responses):
            return read_by_prompt((entrant.folder or run.store.path(entrant.responses)) / RESPONSES)
        # Four characters a token, as the estimate counts; begun with the id so that no two policies say the same.
        text = entrant.responses.id.ljust(4 * run.config.generation.max_new_tokens, ".")
        return {prompt["prompt_id"]: {"response": text} for prompt in contest.prompts}

    inquiries = _inquire(run, contest, judge, foresee)
    questions = {key: question for inquiry in inquiries for key, question in inquiry.by_key.items()}
    path, known = Path(run.config.paths.outputs) / LEDGER, {}
    if path.is_file():
        with Ledger(path) as ledger:
            known = ledger.find(questions)
    unasked = {question.key: question for question in select_open(questions, known, judge)}
    costs = {}
    for inquiry in inquiries:
        own = [found for key in inquiry.by_key if (found := unasked.pop(key, None))]
        key = content_hash([identify(judge, contest.criteria), *(entrant.responses.hash for entrant in inquiry.match)])
        costs[key] = estimate(own, judge)
    return costs


def identify(judge: OpenAIJudgeConfig, criteria: Sequence[Criterion]) -> str:
    """Return model and hash of the protocol: verdicts of two protocols are never compared."""
    names = ("model", "repeats", "temperature", "max_tokens", "seed", "reasoning_effort", "min_score", "max_score")
    protocol = {name: getattr(judge, name) for name in (*names, "structured")}
    protocol |= {"base_url": find_base_url(judge), "template": load_template(judge.template, criteria)}
    return f"{judge.model}-{content_hash(protocol)[:10]}"


def _make_records(contest: Contest, inquiry: Inquiry, answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    records = []
    for prompt in contest.prompts:
        prompt_id = prompt["prompt_id"]
        ours, theirs = (responses[prompt_id] for responses in inquiry.responses)
        record = make_record(prompt, ours, theirs)
        for criterion in contest.criteria:
            asked = inquiry.questions.get((prompt_id, criterion.name))
            singles = [
                {"repeat": question.repeat}
                | read_single(question, answers[question.key], question.first == ours["response"])
                for question in asked or ()
            ]
            record[criterion.name] = None if asked is None else combine(singles) if asked else call_tie()
        for question in inquiry.questions.get((prompt_id, REFUSAL), ()):
            answer = answers[question.key]
            state, label = (answer.state, None) if answer.raw is None else read_label(answer.raw, answer.finish_reason)
            record[REFUSAL] = {"state": state.value, "label": label}
        records.append(record)
    return records
