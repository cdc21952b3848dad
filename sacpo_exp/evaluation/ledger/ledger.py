"""The ledger: every judgment that was asked for, once, with what came of it."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

from sacpo_exp.config.schema import Journal
from sacpo_exp.errors import LedgerError
from sacpo_exp.evaluation.ledger import batches
from sacpo_exp.evaluation.ledger.claims import Claims
from sacpo_exp.evaluation.ledger.records import Answer, Question, State
from sacpo_exp.evaluation.ledger.rows import put_judgment, read_answer, read_judgments, read_state_cell
from sacpo_exp.evaluation.ledger.summary import Summary, summarise
from sacpo_exp.evaluation.ledger.tables import explained, lock_folder, open_database
from sacpo_exp.evaluation.ledger.texts import chunks, from_cell, marks

PAGE = 200  # judgments read at once

ReadState = Callable[[str, str | None, str | None, tuple[float, float]], State]


class Ledger:
    """Judgments by key in one SQLite file that any number of processes and threads may use at once.

    What a method changes is committed when it returns. To ask a question exactly once: `claim` it, look with `find`
    whether another process recorded it meanwhile, ask, `record`.

    Args:
        path: of the file; made if it is missing.
        journal: as `ledger.journal` has it.

    Raises:
        LedgerError: here and by every method: the file is damaged or can't be written.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self.path = path
        self._database = open_database(path, journal)
        self._claims = Claims(lock_folder(path))
        self._guard = RLock()
        self._is_open = True

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all claims and close the file; a second call does nothing."""
        with self._guard:
            if not self._is_open:
                return
            self._is_open = False
            if self._claims.has_to_sign_out:
                # Claims that can't be taken back are free all the same, once their owner is no longer alive.
                with suppress(LedgerError), self._writing() as database:
                    self._claims.sign_out(database)
                self._claims.die()
            with explained(self.path):
                self._database.close()

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Answers by key, of those that are there."""
        found: dict[str, Answer] = {}
        with self._guard, explained(self.path):
            for part in chunks(list(keys)):
                query = f"SELECT * FROM judgments WHERE key IN ({marks(part)})"
                found.update((row["key"], read_answer(row)) for row in self._database.execute(query, part))
        return found

    def record(self, question: Question, answer: Answer) -> None:
        """Keep the answer, and release the claim on its question.

        Attempts and tokens of an earlier record are added to its own, since they were paid. A failed one never takes
        the place of an answer.
        """
        with self._writing() as database:
            row = database.execute("SELECT * FROM judgments WHERE key = ?", (question.key,)).fetchone()
            earlier = read_answer(row) if row else None
            if earlier and answer.state == State.failed and earlier.state != State.failed:
                update = "UPDATE judgments SET attempts = attempts + ? WHERE key = ?"
                database.execute(update, (answer.attempts, question.key))
            else:
                put_judgment(database, question, _add_usage(answer, earlier) if earlier else answer)
            database.execute("DELETE FROM claims WHERE key = ?", (question.key,))

    def merge(self, judgments: Iterable[tuple[Question, Answer]]) -> Counter[str]:
        """Add judgments from elsewhere, all or (if one of them raises) none.

        Returns:
            How many were `added`, `completed` (here they had failed), and `kept` as they are here.
        """
        counts: Counter[str] = Counter()
        with self._writing() as database:
            for question, answer in judgments:
                found = database.execute("SELECT state FROM judgments WHERE key = ?", (question.key,)).fetchone()
                has_failed = found is not None and read_state_cell(found[0]) == State.failed
                change = "added" if found is None else "kept"
                if has_failed and answer.state != State.failed:
                    change = "completed"
                counts[change] += 1
                if change != "kept":
                    put_judgment(database, question, answer)
        return counts

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that this process may ask now: no other living one has claimed them.

        A claim ends with `record`, `release`, `close`, or the death of the process.
        """
        with self._writing() as database:
            return self._claims.take(database, keys)

    def release(self, keys: Iterable[str]) -> None:
        """Give up claims on questions that are not asked after all."""
        with self._writing() as database:
            self._claims.give_back(database, keys)

    def judgments(self) -> Iterator[tuple[Question, Answer]]:
        """Everything, in order of key, read as it is asked for."""
        last = ""
        while True:
            with self._guard, explained(self.path):
                page = read_judgments(self._database, last, PAGE)
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1][0].key

    def reparse(self, read_state: ReadState) -> Counter[tuple[State, State]]:
        """Read the state of every record that has an answer anew.

        Args:
            read_state: of criterion, raw text, finish reason and scale.

        Returns:
            How many had the first state and have the second, which may be the same.
        """
        counts: Counter[tuple[State, State]] = Counter()
        changes = []
        query = "SELECT key, state, criterion, raw, finish_reason, min_score, max_score FROM judgments WHERE state != ?"
        with self._writing() as database:
            for key, state, criterion, raw, finish_reason, low, high in database.execute(query, (State.failed,)):
                old = read_state_cell(state)
                new = read_state(criterion, from_cell(raw), from_cell(finish_reason), (low, high))
                counts[old, new] += 1
                if new != old:
                    changes.append((new, key))
            database.executemany("UPDATE judgments SET state = ? WHERE key = ?", changes)
        return counts

    def summarise(self) -> list[Summary]:
        """One entry per model, base URL and criterion."""
        with self._guard, explained(self.path):
            return summarise(self._database)

    def add_batch(self, batch_id: str, base_url: str, keys: Sequence[str]) -> None:
        """Remember a batch that was handed in, with the keys of its questions."""
        with self._writing() as database:
            batches.add(database, batch_id, base_url, keys)

    def open_batches(self, base_url: str) -> dict[str, list[str]]:
        """Keys of the batches of a server that are not collected yet, by id, the oldest batch first."""
        with self._guard, explained(self.path):
            return batches.find_open(self._database, base_url)

    def close_batch(self, batch_id: str) -> None:
        """Forget a batch: all of its answers are recorded, or will not come."""
        with self._writing() as database:
            batches.close(database, batch_id)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which nobody else writes; undone if the body raises."""
        with self._guard, explained(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself may have undone it
                    self._database.execute("ROLLBACK")
                raise


def _add_usage(answer: Answer, earlier: Answer) -> Answer:
    """`answer` with what both have used; tokens that no server counted stay unknown."""
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    counted = {name: (getattr(answer, name), getattr(earlier, name)) for name in names}
    totals: dict[str, Any] = {name: sum(n or 0 for n in pair) for name, pair in counted.items() if pair != (None, None)}
    return replace(answer, attempts=earlier.attempts + answer.attempts, **totals)
