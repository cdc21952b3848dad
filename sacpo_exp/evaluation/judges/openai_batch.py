"""OpenAI's Batch API: submit, leave, come back with the same command, collect; what is missing is submitted again."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.judges.batch_files import ENDPOINT, read_lines, split, write_line
from sacpo_exp.evaluation.judges.costs import Budget, describe_estimate, estimate
from sacpo_exp.evaluation.judges.credentials import find_base_url, find_key, mask, redact
from sacpo_exp.evaluation.judges.faults import explain
from sacpo_exp.evaluation.judges.openai_judge import blame
from sacpo_exp.evaluation.judges.replies import BadBodyError, now
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

log = logging.getLogger(__name__)

Sent = TypeVar("Sent")

WAITING: Final = ("validating", "in_progress", "finalizing", "cancelling")
#: What a batch carries: the hash of its questions, so that one whose id was lost by a kill is found again, and when it
#: was submitted by our clock, the one that the ledger has.
MARK, SUBMITTED = "sacpo_exp", "submitted"


def ask_batch(todo: Sequence[Question], judge: OpenAIJudgeConfig, ledger: Ledger) -> int:
    """Collect what open batches have answered and submit what is then missing; number of questions that still wait.

    A command submits no more than its limits allow, what waits in open batches counted.

    Raises:
        ConfigError, JudgeError: the server, the key or the model is not what `judge` says, a batch was not accepted, or
            nothing fits into the budget.
    """
    import openai

    from sacpo_exp.evaluation.judges.connecting import connection_settings, limit_file

    url, key = find_base_url(judge), find_key(judge)
    http = openai.DefaultHttpxClient(**connection_settings(url, limit_file))
    with openai.OpenAI(api_key=key, base_url=url, timeout=judge.timeout, http_client=http) as client:
        try:
            return _Batches(client, judge, ledger, key).ask(todo)
        except openai.APIError as error:
            raise blame(explain(error, has_answered=False), judge, url, key) from error
        except (json.JSONDecodeError, BadBodyError) as error:
            raise JudgeError(
                f"the judge at {url} sent something unreadable about its batches ({redact(str(error), key)})."
            ) from error


class _Batches:
    def __init__(self, client: "OpenAI", judge: OpenAIJudgeConfig, ledger: Ledger, key: str) -> None:
        self._client, self._judge, self._ledger, self._key = client, judge, ledger, key
        self._url = find_base_url(judge)
        self._seen: set[str] = set()

    def ask(self, todo: Sequence[Question]) -> int:
        questions = {question.key: question for question in todo}
        known = self._ledger.find(questions)
        waiting = self._look(questions)
        claimed = self._ledger.claim(list(questions.keys() - waiting))
        try:
            # Another process may have submitted or recorded some between our first look and the claim.
            waiting |= self._look(questions)
            found = self._ledger.find(questions)
            left = [question for key, question in questions.items() if found.get(key) == known.get(key)]
            missing = [q for q in left if q.key in claimed and q.key not in waiting]
            if missing:
                log.info("%s", describe_estimate(estimate(missing, self._judge), self._judge))
            for portion in split(self._afford(missing, (q for q in left if q.key in waiting))):
                self._submit(portion)
            return len(left)
        finally:
            self._ledger.release(claimed)

    def _look(self, questions: Mapping[str, Question]) -> set[str]:
        """Collect the open batches that are done and hold one of `questions`; keys of those in batches that are not."""
        waiting: set[str] = set()
        for batch_id, keys in self._ledger.open_batches(self._url).items():
            if batch_id in self._seen or questions.keys().isdisjoint(keys):
                continue
            batch = self._retrieve(batch_id)
            if batch is not None and batch.status in WAITING:
                waiting.update(keys)
                _announce(batch, self._key)
                continue
            self._seen.add(batch_id)
            if batch is None:
                log.warning("%s is not known at %s: its %d judgments are asked anew", batch_id, self._url, len(keys))
                self._ledger.close_batch(batch_id)
            else:
                self._collect(batch, keys, questions)
        return waiting & questions.keys()

    def _retrieve(self, batch_id: str) -> "Batch | None":
        """The batch as it stands; None if the server, which is there, has none of that name."""
        import openai

        try:
            batch = self._client.batches.retrieve(batch_id)
        except openai.NotFoundError:
            self._client.batches.list(limit=1)  # raises where nothing at all is found
            return None
        return self._check(batch, "id", "status")

    def _check(self, sent: Sent, *names: str) -> Sent:
        """What the server sent, if it has these fields and they can be told: the client passes on anything."""
        values = [getattr(sent, name, None) for name in names]
        if any(value is None or (isinstance(value, str) and value != redact(value, self._key)) for value in values):
            raise JudgeError(f"the judge at {self._url} sent something unreadable about its batches.")
        return sent

    def _collect(self, batch: "Batch", keys: Iterable[str], questions: Mapping[str, Question]) -> None:
        """Record what a batch has answered of `questions`; close it once nothing in it is left to anybody."""
        expected, submitted = set(keys), _submitted(batch)
        # What was recorded since the batch was made is as good, or came from it already.
        found = self._ledger.find(expected)
        open_ = {key for key in expected if key not in found or _moment(found[key].created) < submitted}
        recorded: set[str] = set()
        is_left = False  # an answer to another command, which knows the question
        for key, answer in self._read(batch, questions):
            if key in open_ and answer is not None:
                self._ledger.record(questions[key], mask(answer, self._key))
                recorded.add(key)
                open_.discard(key)
            is_left |= key in open_ and key not in questions
        if not is_left:
            self._ledger.close_batch(batch.id)
        log.info("collected %s: %d judgments, the batch is %s", batch.id, len(recorded), batch.status)
        if batch.status == "failed":
            errors = (batch.errors.data if batch.errors else None) or []
            said = "; ".join(str(error.message) for error in errors[:3]) or "no reason given"
            raise JudgeError(f"the judge at {self._url} did not accept batch {batch.id}: {redact(said, self._key)}.")

    def _read(self, batch: "Batch", questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer | None]]:
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            yield from read_lines(self._client.files.content(file_id).text, questions, self._key)

    def _afford(self, missing: Sequence[Question], waiting: Iterable[Question]) -> list[Question]:
        """Those that fit into the budget together, beside what waits in open batches."""
        budget = Budget(self._judge)
        for question in waiting:
            budget.reserve(question)
        calls, fitting = budget.calls, []
        for question in missing:
            if limit := budget.reserve(question):
                if budget.calls == 0:
                    raise JudgeError(f"not one of {len(missing):,} judgments fits into {limit}.")
                done = f"{budget.calls - calls:,} of {len(missing):,}"
                log.info("submits  %s judgments: the rest does not fit into %s", done, limit)
                break
            fitting.append(question)
        return fitting

    def _submit(self, questions: Sequence[Question]) -> None:
        mark = hashlib.sha256("".join(sorted(q.key for q in questions)).encode()).hexdigest()
        batch = self._find_lost(mark, questions)
        if batch is None:
            content = "".join(map(write_line, questions)).encode()
            file = self._check(self._client.files.create(file=("judgments.jsonl", content), purpose="batch"), "id")
            batch = self._check(self._create(file.id, mark), "id")
        self._ledger.add_batch(batch.id, self._url, [question.key for question in questions])
        log.info("submitted %s with %d judgments; come back with the same command", batch.id, len(questions))

    def _create(self, file_id: str, mark: str) -> "Batch":
        # Not tried again by itself: the first try may have made a batch. The same command finds it by its mark.
        batches = self._client.with_options(max_retries=0).batches
        metadata = {MARK: mark, SUBMITTED: now()}
        return batches.create(input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h", metadata=metadata)

    def _find_lost(self, mark: str, questions: Sequence[Question]) -> "Batch | None":
        """A batch of the same questions, newer than what is known of them, though the ledger does not know it."""
        import openai

        try:
            page = self._check(self._client.batches.list(limit=100), "data")
        except openai.APIStatusError:
            return None  # a server that has no such list
        found = self._ledger.find(question.key for question in questions)
        latest = max((_moment(answer.created) for answer in found.values()), default=datetime.min.replace(tzinfo=UTC))
        for batch in page.data:
            is_ours = (batch.metadata or {}).get(MARK) == mark and batch.id not in self._seen
            if is_ours and batch.status in (*WAITING, "completed") and _submitted(batch) > latest:
                return self._check(batch, "id", "status")
        return None


def _submitted(batch: "Batch") -> datetime:
    own = _moment((batch.metadata or {}).get(SUBMITTED, ""))
    return own if own.year > 1 else datetime.fromtimestamp(batch.created_at, UTC)


def _moment(text: str) -> datetime:
    """A time as `now` writes it; the year 1 for anything else."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)


def _announce(batch: "Batch", key: str) -> None:
    counts = batch.request_counts
    state = f"{counts.completed} of {counts.total} done" if counts else batch.status
    log.info("waiting  for %s: %s", batch.id, redact(state, key))
