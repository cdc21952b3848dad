"""Ask a judge through the openai client: what the ledger lacks, many at a time, each recorded on arrival."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import JudgeError, SacpoError
from sacpo_exp.evaluation.judges.client import (
    check_server,
    connection_settings,
    describe_error,
    failed_answer,
    find_base_url,
    find_fatal,
    find_key,
    mask,
)
from sacpo_exp.evaluation.judges.costs import Budget, describe_estimate, dollars, estimate, require_price
from sacpo_exp.evaluation.judges.questions import make_body, read_body
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Answer, Question, State
from sacpo_exp.progress import Progress

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

#: Seconds between looks at what another process is asking.
POLL: Final = 0.5


def select_open(
    questions: Mapping[str, Question], known: Mapping[str, Answer], judge: OpenAIJudgeConfig
) -> list[Question]:
    """Return the questions to be asked: without a record, or with one in a state of `judge.ask_again`."""
    again = {state.value for state in judge.ask_again}
    return [question for key, question in questions.items() if key not in known or known[key].state.value in again]


def ask(questions: Sequence[Question], judge: OpenAIJudgeConfig, ledger: Ledger) -> None:
    """Ask every question that the ledger has no record of, and those in a state of `judge.ask_again`.

    Raises:
        ConfigError: the server, the key or the model is not what `judge` says, or a budget can't be kept.
        JudgeError: stopped at a budget, or the server is out of order; what was answered is kept.
    """
    require_price(judge)
    unique = {question.key: question for question in questions}
    known = ledger.find(unique)
    todo = select_open(unique, known, judge)
    if not todo:
        return
    check_server(find_base_url(judge))
    log.info("%s", describe_estimate(estimate(todo, judge), judge))
    asyncio.run(_Asker(todo, known, judge, ledger).run())


class _Asker:
    """One run of questions, shared with other processes through the ledger's claims; all of it in one thread."""

    def __init__(
        self, todo: Sequence[Question], known: Mapping[str, Answer], judge: OpenAIJudgeConfig, ledger: Ledger
    ) -> None:
        # Those that failed before come last: if they fail again they must not keep others from being asked.
        self._todo = deque(sorted(todo, key=lambda question: question.key in known))
        self._claimed: deque[Question] = deque()
        self._known, self._judge, self._ledger = known, judge, ledger
        self._url, self._key, self._budget = find_base_url(judge), find_key(judge), Budget(judge)
        self._lock = asyncio.Lock()
        self._failures = 0
        self._error: SacpoError | None = None
        self._limit: str | None = None

    async def run(self) -> None:
        """Ask until nothing is open or an error stops the run; then those in flight have ended too."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        judge, total = self._judge, len(self._todo)
        http = DefaultAsyncHttpxClient(**connection_settings(self._url))
        settings: dict[str, Any] = {"max_retries": judge.max_attempts - 1, "timeout": judge.timeout}
        with Progress(total, f"judge: {judge.model}", "judgment") as self._bar:
            async with AsyncOpenAI(api_key=self._key, base_url=self._url, http_client=http, **settings) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(judge.concurrency, total)):
                            group.create_task(self._work(client))
                finally:
                    self._ledger.release()
        if self._error:
            raise self._error
        if self._limit:
            spent = f", {dollars(self._budget.usd)} spent" if judge.budget_usd is not None else ""
            raise JudgeError(
                f"stopped at {self._limit}: {self._budget.calls:,} calls made{spent}, {total - self._bar.n:,} of "
                f"{total:,} judgments still to be made. The same command goes on from there."
            )

    async def _work(self, client: "AsyncOpenAI") -> None:
        try:
            while question := await self._take():
                if limit := self._budget.reserve(question):
                    self._limit = limit
                elif answer := await self._call(client, question):
                    self._ledger.record(question, mask(answer, self._key))
                    self._count(question, answer)
        except SacpoError as error:
            self._error = self._error or error

    async def _take(self) -> Question | None:
        """Return the next question that is ours to ask; None when all have a record, or the run is stopped."""
        async with self._lock:
            while not (self._claimed or self._error or self._limit) and self._todo:
                # Few at a time, so that a second process finds some left.
                portion = [self._todo.popleft() for _ in range(min(2 * self._judge.concurrency, len(self._todo)))]
                ours = self._ledger.claim(question.key for question in portion)
                found = self._ledger.find(question.key for question in portion)
                elsewhere = []
                for question in portion:
                    if found.get(question.key) != self._known.get(question.key):  # recorded by another process
                        self._ledger.release([question.key])
                        self._bar.update()
                    elif question.key in ours:
                        self._claimed.append(question)
                    else:
                        elsewhere.append(question)
                self._todo.extend(elsewhere)
                if elsewhere == portion:
                    await asyncio.sleep(POLL)
            is_stopped = self._error or self._limit
            return self._claimed.popleft() if self._claimed and not is_stopped else None

    async def _call(self, client: "AsyncOpenAI", question: Question) -> Answer | None:
        """Return the answer, or a record of why there is none; None where the error stops the run."""
        import openai

        start = time.monotonic()
        try:
            # The client tries again after time-outs, lost connections, 408, 409, 429 and 5xx, and obeys Retry-After.
            reply = await client.chat.completions.with_raw_response.create(**make_body(question))
            answer = read_body(reply.text, question, attempts=reply.retries_taken + 1)
        except (openai.OpenAIError, ValueError) as error:
            if fatal := find_fatal(error, self._judge, self._key):
                self._error = self._error or fatal
                return None
            status = getattr(error, "status_code", 0)
            attempts = self._judge.max_attempts if status in (0, 408, 409, 429) or status >= 500 else 1
            message = describe_error(error, self._key)
            answer = failed_answer(message, getattr(error, "code", None), attempts=attempts)
        self._budget.settle(question, answer)
        return replace(answer, seconds=time.monotonic() - start)

    def _count(self, question: Question, answer: Answer) -> None:
        self._bar.update()
        if question.key in self._known and answer.state == State.failed and answer.attempts == 1:
            return  # rejected again, as in an earlier run; all such questions stand at the end, one after the other
        self._failures = self._failures + 1 if answer.state == State.failed else 0
        if self._failures >= self._judge.max_failures:
            self._error = self._error or JudgeError(
                f"the judge at {self._url} failed on {self._failures} questions in a row (last: "
                f"{answer.error}). What was judged is kept; the same command goes on from there."
            )
