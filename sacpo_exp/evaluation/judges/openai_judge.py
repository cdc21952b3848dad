"""Ask a judge through the openai client: what the ledger has not, many at a time, each recorded on arrival."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sacpo_exp.config.judges import AskVia, OpenAIJudgeConfig
from sacpo_exp.errors import ConfigError, JudgeError, SacpoError
from sacpo_exp.evaluation.judges.costs import Budget, describe_estimate, dollars, estimate, require_price
from sacpo_exp.evaluation.judges.credentials import KEY, find_base_url, find_key, mask, redact
from sacpo_exp.evaluation.judges.faults import REDIRECTS, Fault, Problem, choose_wait, explain
from sacpo_exp.evaluation.judges.replies import make_body, now, read_body
from sacpo_exp.evaluation.judges.sharing import Queue, select_open
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question, State
from sacpo_exp.progress import Progress

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)


def ask(questions: Sequence[Question], judge: OpenAIJudgeConfig, ledger: Ledger) -> int:
    """Ask every question that the ledger has no record of, and those in a state of `judge.ask_again`.

    Returns:
        number of questions that still wait for a batch; 0 where each has a record.

    Raises:
        ConfigError: the server, the key or the model is not what `judge` says, or a budget can't be kept.
        JudgeError: stopped at a budget, or the server is out of order; what was answered is kept.
    """
    require_price(judge)
    unique = {question.key: question for question in questions}
    known = ledger.find(unique)
    todo = select_open(unique, known, judge)
    if not todo:
        return 0
    # It tells of every call, in the middle of the progress bar.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    if judge.via == AskVia.batch:
        from sacpo_exp.evaluation.judges.openai_batch import ask_batch

        return ask_batch(todo, judge, ledger)
    log.info("%s", describe_estimate(estimate(todo, judge), judge))
    asyncio.run(_ask_all(todo, known, judge, ledger))
    return 0


async def _ask_all(todo: list[Question], known: Mapping[str, Answer], judge: OpenAIJudgeConfig, ledger: Ledger) -> None:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    from sacpo_exp.evaluation.judges.connecting import connection_settings, limit_answer

    url, key = find_base_url(judge), find_key(judge)
    http = DefaultAsyncHttpxClient(**connection_settings(url, limit_answer))
    async with AsyncOpenAI(api_key=key, base_url=url, max_retries=0, timeout=judge.timeout, http_client=http) as client:
        with Progress(len(todo), f"judge: {judge.model}", "judgment") as bar:
            asker = Asker(judge, ledger, client, key, bar)
            await asker.run(todo, known)


class Asker:
    """One run of questions over one client; all of it in one thread."""

    def __init__(
        self, judge: OpenAIJudgeConfig, ledger: Ledger, client: "AsyncOpenAI", key: str, bar: Progress
    ) -> None:
        self._judge, self._ledger, self._client, self._key, self._bar = judge, ledger, client, key, bar
        self._budget = Budget(judge)
        self._queue = Queue(ledger, portion=2 * judge.concurrency)
        self._error: SacpoError | None = None
        self._stopped, self._settled = asyncio.Event(), asyncio.Event()
        self._has_answered = False
        self._failures = 0
        self._known: Mapping[str, Answer] = {}
        self._rejected: set[str] = set()

    async def run(self, todo: Sequence[Question], known: Mapping[str, Answer]) -> None:
        """Ask until nothing is open or an error stops the run; then those in flight have ended too.

        Args:
            known: what the ledger had when `todo` was made.
        """
        self._total, self._known = len(todo), known
        # Those that failed before come last: if they fail again they must not keep others from being asked.
        self._queue.put(sorted(todo, key=lambda question: question.key in known), known)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._judge.concurrency, len(todo))):
                    group.create_task(self._work())
        finally:
            self._queue.release()
        if self._error:
            raise self._error

    async def _work(self) -> None:
        try:
            while question := await self._queue.take():
                if answer := await self._answer(question):
                    self._ledger.record(question, mask(answer, self._key))
                    self._queue.done(question)
                    self._count(question, answer)
        except SacpoError as error:
            self._stop(error)
        self._bar.update(self._queue.count_others())

    async def _answer(self, question: Question) -> Answer | None:
        """The answer, or a record of why there is none; None where the run was stopped before there was either."""
        for attempt in range(1, self._judge.max_attempts + 1):
            if not await self._reserve(question):
                return None
            answer, problem = await self._call(question, attempt)
            if answer:
                # A model may have nothing to say once; twice is its answer.
                is_empty = answer.raw == "" and answer.state == State.unparsed
                if not is_empty or attempt >= min(2, self._judge.max_attempts):
                    return answer
            elif problem.fault == Fault.fatal:
                self._stop(blame(problem, self._judge, str(self._client.base_url), self._key))
                return None
            elif problem.fault == Fault.filtered:
                return self._give_up(State.refused, problem, attempt)
            elif problem.fault == Fault.rejected and attempt >= self._judge.max_rejections:
                self._rejected.add(question.key)
                break
            if attempt < self._judge.max_attempts:
                await self._pause(choose_wait(attempt, question.key, problem.retry_after))
        return self._give_up(State.failed, problem, attempt)

    async def _reserve(self, question: Question) -> bool:
        """Whether one more call may be made: it must fit into the budget once those in flight have said their price."""
        while not self._stopped.is_set() and (limit := self._budget.reserve(question)):
            if self._budget.in_flight:
                await self._settled.wait()
            else:
                self._stop(JudgeError(self._explain_limit(limit, question)))
        return not self._stopped.is_set()

    async def _call(self, question: Question, attempt: int) -> tuple[Answer | None, Problem]:
        """One attempt: an answer, or what was in its way."""
        start, answer, problem = time.monotonic(), None, Problem(Fault.passing, "empty content")
        try:
            async with asyncio.timeout(self._judge.timeout):  # the client's own starts anew with every byte
                completions = self._client.chat.completions.with_raw_response
                response = await completions.create(**make_body(question))
            answer = read_body(response.text, question, attempt, time.monotonic() - start)
            self._has_answered = True
        except Exception as error:
            problem = explain(error, self._has_answered)
        self._budget.settle(question, answer, problem.is_free)
        self._settled.set()
        self._settled = asyncio.Event()
        return answer, problem

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the run is stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _give_up(self, state: State, problem: Problem, attempts: int) -> Answer:
        message = redact(problem.message, self._key)
        finish_reason = "content_filter" if state == State.refused else None
        return Answer(state, finish_reason=finish_reason, error=message, attempts=attempts, created=now())

    def _count(self, question: Question, answer: Answer) -> None:
        self._bar.update()
        if question.key in self._rejected and question.key in self._known:
            return  # it had failed before and fails again by its own fault: no sign that the server is out of order
        self._failures = self._failures + 1 if answer.state == State.failed else 0
        if self._failures >= self._judge.max_failures:
            self._stop(
                JudgeError(
                    f"the judge at {self._client.base_url} failed on {self._failures} questions in a row (last: "
                    f"{answer.error}). What was judged is kept; the same command goes on from there."
                )
            )

    def _stop(self, error: SacpoError) -> None:
        """Start no further call; those in flight end, and the first error counts."""
        self._error = self._error or error
        self._stopped.set()
        self._queue.close()

    def _explain_limit(self, limit: str, question: Question) -> str:
        spent, worst = "", self._budget.worst_case(question)
        if self._judge.budget_usd is not None:
            spent = f", {dollars(self._budget.usd)} spent"
            if worst > self._judge.budget_usd:
                return f"stopped at {limit}: the next call alone may cost {dollars(worst)}. Try: judge.budget_usd=null"
        return (
            f"stopped at {limit}: {self._budget.calls:,} calls made{spent}, {self._queue.count_open():,} of "
            f"{self._total:,} judgments still to be made. The same command goes on from there."
        )


def blame(problem: Problem, judge: OpenAIJudgeConfig, url: str, key: str) -> SacpoError:
    """One sentence for what stops a run: which setting, what the server said, what would do."""
    said = redact(problem.message, key)
    url = url.rstrip("/")
    if problem.status in (401, 403):
        names = f" judge.api_key_env={KEY}" if judge.api_key_env is None else ""
        hint = f"Try: export {judge.api_key_env or KEY}=...{names}"
        return ConfigError(f"the judge at {url} does not accept the key ({said}). {hint}")
    if problem.status in REDIRECTS:
        return ConfigError(
            f"`judge.base_url` must be where a server answers, but at {url} there is a redirect ({said})."
        )
    if problem.status in (404, 405):
        return ConfigError(
            f"`judge.base_url` {url} or `judge.model` {judge.model} is not there ({said}). "
            "Try: judge.base_url=http://HOST:PORT/v1 judge.model=NAME"
        )
    if problem.status is None:
        return ConfigError(f"`judge.base_url` must be where a server answers, but at {url} there is {said}.")
    return JudgeError(
        f"the judge at {url} stopped: {said}. What was judged is kept; the same command goes on from there."
    )
