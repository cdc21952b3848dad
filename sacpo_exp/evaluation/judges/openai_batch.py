"""OpenAI's Batch API: submit, leave, come back with the same command, collect; what is missing is submitted again."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.judges.client import (
    MOST_OF_BATCH,
    connection_settings,
    describe_error,
    failed_answer,
    find_base_url,
    find_fatal,
    find_key,
    mask,
    redact,
)
from sacpo_exp.evaluation.judges.costs import Budget, describe_estimate, estimate
from sacpo_exp.evaluation.judges.questions import make_body, read_body
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Answer, Question

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

log = logging.getLogger(__name__)

ENDPOINT: Final = "/v1/chat/completions"
#: Requests per file; 50,000 are allowed, and 200 MB.
MOST_REQUESTS: Final = 20_000
WAITING: Final = ("validating", "in_progress", "finalizing", "cancelling")
#: Metadata of a batch: the hash of its questions, so that one whose id was lost by a kill is found again.
MARK: Final = "sacpo_exp"
#: Codes of requests that were not worked on.
UNTOUCHED: Final = ("batch_expired", "batch_cancelled")


def ask_batch(todo: Sequence[Question], known: Mapping[str, Answer], judge: OpenAIJudgeConfig, ledger: Ledger) -> int:
    """Collect finished batches, submit what is then missing, and return the number of questions that still wait.

    A command submits no more than its limits allow, with the questions in open batches. `known`: the answers in the
    ledger when `todo` was made.
    """
    import openai

    url, key = find_base_url(judge), find_key(judge)
    http = openai.DefaultHttpxClient(**connection_settings(url, MOST_OF_BATCH))
    with openai.OpenAI(api_key=key, base_url=url, timeout=judge.timeout, http_client=http) as client:
        try:
            return _Batches(client, judge, ledger, key).ask(todo, known)
        except (openai.OpenAIError, ValueError, AttributeError) as error:
            message = describe_error(error, key)
            fatal = find_fatal(error, judge, key)
            raise fatal or JudgeError(f"the judge at {url} can't work on batches ({message}).") from error


class _Batches:
    def __init__(self, client: "OpenAI", judge: OpenAIJudgeConfig, ledger: Ledger, key: str) -> None:
        self._client, self._judge, self._ledger, self._key = client, judge, ledger, key
        self._url = find_base_url(judge)

    def ask(self, todo: Sequence[Question], known: Mapping[str, Answer]) -> int:
        try:
            self._collect_finished()
            # What another process claims is being asked there; what it has submitted is in an open batch by now.
            claimed = self._ledger.claim([question.key for question in todo])
            waiting = {q.key for questions in self._ledger.open_batches(self._url).values() for q in questions}
            found = self._ledger.find(question.key for question in todo)
            left = [question for question in todo if found.get(question.key) == known.get(question.key)]
            missing = [question for question in left if question.key in claimed - waiting]
            if missing:
                log.info("%s", describe_estimate(estimate(missing, self._judge), self._judge))
                missing = self._afford(missing, [question for question in left if question.key in waiting])
            for start in range(0, len(missing), MOST_REQUESTS):
                self._submit(missing[start : start + MOST_REQUESTS])
            return len(left)
        finally:
            self._ledger.release()

    def _collect_finished(self) -> None:
        """Record the answers of all batches of this server that are done."""
        import openai

        for batch_id, asked in self._ledger.open_batches(self._url).items():
            try:
                batch = self._client.batches.retrieve(batch_id)
            except openai.NotFoundError:
                self._client.batches.list(limit=1)  # raises where nothing at all is found
                log.warning("%s is not known at %s: its judgments are asked anew", batch_id, self._url)
                self._ledger.close_batch(batch_id)
                continue
            if batch.status in WAITING:
                counts = batch.request_counts
                state = f"{counts.completed} of {counts.total} done" if counts else batch.status
                log.info("waiting  for %s: %s", batch_id, redact(state, self._key))
            elif self._ledger.claim([batch_id]) and batch_id in self._ledger.open_batches(self._url):
                self._collect(batch, {question.key: question for question in asked})

    def _collect(self, batch: "Batch", questions: dict[str, Question]) -> None:
        """Record the answers of a batch, which this process has claimed: two would count its tokens twice."""
        count = 0
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for key, answer in read_lines(self._client.files.content(file_id).text, questions, self._key):
                self._ledger.record(questions.pop(key), mask(answer, self._key))
                count += 1
        self._ledger.close_batch(batch.id)
        log.info("collected %s: %d judgments, the batch is %s", batch.id, count, batch.status)
        if batch.status == "failed":
            errors = (batch.errors.data if batch.errors else None) or []
            message = "; ".join(str(error.message) for error in errors[:3]) or "no reason given"
            raise JudgeError(f"the judge at {self._url} did not accept {batch.id}: {redact(message, self._key)}.")

    def _afford(self, missing: Sequence[Question], waiting: Sequence[Question]) -> list[Question]:
        """Return those that fit into the budget together, beside what waits in open batches."""
        budget = Budget(self._judge)
        for question in waiting:
            budget.reserve(question)
        for count, question in enumerate(missing):
            if limit := budget.reserve(question):
                if budget.calls == 0:
                    raise JudgeError(f"not one of {len(missing):,} judgments fits into {limit}.")
                log.info("submits  %d of %d judgments: the rest does not fit into %s", count, len(missing), limit)
                return list(missing[:count])
        return list(missing)

    def _submit(self, questions: Sequence[Question]) -> None:
        mark = hashlib.sha256("".join(sorted(question.key for question in questions)).encode()).hexdigest()
        batch = self._find_lost(mark)
        if batch is None:
            requests = [
                {"custom_id": question.key, "method": "POST", "url": ENDPOINT, "body": make_body(question)}
                for question in questions
            ]
            content = "".join(json.dumps(request) + "\n" for request in requests).encode()
            file = self._client.files.create(file=("judgments.jsonl", content), purpose="batch")
            # Not tried again by the client: the first try may have made a batch, which is found by its mark.
            batches = self._client.with_options(max_retries=0).batches
            batch = batches.create(
                input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={MARK: mark}
            )
        if not isinstance(batch.id, str) or redact(batch.id, self._key) != batch.id:
            raise ValueError("it names no batch")
        self._ledger.add_batch(batch.id, self._url, questions)
        log.info("submitted %s with %d judgments; come back with the same command", batch.id, len(questions))

    def _find_lost(self, mark: str) -> "Batch | None":
        """Return a batch of the same questions that the ledger does not know."""
        import openai

        try:
            batches = self._client.batches.list(limit=100).data
        except openai.APIStatusError:
            return None  # a server that has no such list
        for batch in batches:
            is_ours = (batch.metadata or {}).get(MARK) == mark and not self._ledger.knows_batch(batch.id)
            if is_ours and batch.status in (*WAITING, "completed"):
                return batch
        return None


def read_lines(text: str, questions: Mapping[str, Question], secret: str) -> Iterator[tuple[str, Answer]]:
    """Iterate over (key, answer) of the lines of a batch's file about one of `questions`, whom the caller may remove.

    A line that can't be read and a request that was not worked on leave their question without an answer.
    """
    for line in text.split("\n"):
        try:
            entry = json.loads(line)
            key, error, response = entry["custom_id"], entry.get("error") or {}, entry.get("response") or {}
            if key in questions and error.get("code") not in UNTOUCHED:
                yield key, _read_response(response, error, questions[key], secret)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _read_response(response: Mapping[str, Any], error: Mapping[str, Any], question: Question, secret: str) -> Answer:
    message = f"HTTP {response.get('status_code')}"
    if response.get("status_code") == 200 and not error:
        try:
            return read_body(json.dumps(response.get("body")), question, via="batch")
        except ValueError as problem:
            message = str(problem)
    error = error or (response.get("body") or {}).get("error") or {}
    message = redact(f"{message}: {error.get('message') or 'no reason given'}"[:300], secret)
    return failed_answer(message, error.get("code"), via="batch")
