"""Which question is asked next, and by which process: what the ledger's claims leave to this one."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question, State

#: Seconds between looks at what another process is asking.
POLL: Final = 0.5


def select_open(
    questions: Mapping[str, Question], known: Mapping[str, Answer], judge: OpenAIJudgeConfig
) -> list[Question]:
    """Those, both by key, that have to be asked: without a record, or with one in a state of `judge.ask_again`."""
    again = {State(state.value) for state in judge.ask_again}
    return [question for key, question in questions.items() if key not in known or known[key].state in again]


class Queue:
    """Questions still to be asked, shared with other processes through the ledger's claims.

    Args:
        portion: how many are claimed ahead; few, so that a second process finds some left.
    """

    def __init__(self, ledger: Ledger, portion: int) -> None:
        self._ledger, self._portion = ledger, portion
        self._open: deque[Question] = deque()
        self._claimed: deque[Question] = deque()
        self._elsewhere: dict[str, Question] = {}
        self._known: Mapping[str, Answer] = {}
        self._asked: set[str] = set()
        self._by_others = 0
        self._lock = asyncio.Lock()
        self._is_closed = False

    def put(self, questions: Sequence[Question], known: Mapping[str, Answer]) -> None:
        """What there is to do, and what the ledger had when that was decided: whatever is newer comes from others."""
        self._open.extend(questions)
        self._known = known

    async def take(self) -> Question | None:
        """The next question that is ours to ask; None when all are recorded, by us or by others, or after `close`."""
        async with self._lock:
            while not self._claimed and not self._is_closed:
                if self._open:
                    self._claim([self._open.popleft() for _ in range(min(self._portion, len(self._open)))])
                elif self._elsewhere:
                    await asyncio.sleep(POLL)
                    self._claim(list(self._elsewhere.values()))
                else:
                    return None
            if self._is_closed:
                return None
            question = self._claimed.popleft()
            self._asked.add(question.key)
            return question

    def _claim(self, questions: list[Question]) -> None:
        ours = self._ledger.claim([question.key for question in questions])
        # Another process may have recorded some between our first look and the claim.
        records = self._ledger.find([question.key for question in questions])
        for question in questions:
            key = question.key
            self._elsewhere.pop(key, None)
            if key in records and records[key] != self._known.get(key):
                self._ledger.release([key])
                self._by_others += 1
            elif key in ours:
                self._claimed.append(question)
            else:
                self._elsewhere[key] = question

    def close(self) -> None:
        """Hand out nothing more."""
        self._is_closed = True

    def done(self, question: Question) -> None:
        """It has a record now, which has released its claim."""
        self._asked.discard(question.key)

    def count_others(self) -> int:
        """Those that others have recorded since the last call."""
        count, self._by_others = self._by_others, 0
        return count

    def count_open(self) -> int:
        """Those without a record of this run."""
        return len(self._open) + len(self._claimed) + len(self._elsewhere) + len(self._asked)

    def release(self) -> None:
        """Give back what was claimed and not asked."""
        self._ledger.release([*self._asked, *(question.key for question in self._claimed)])
