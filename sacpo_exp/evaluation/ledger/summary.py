"""How much was asked of whom, and what came of it."""

import sqlite3
from dataclasses import dataclass

from sacpo_exp.evaluation.ledger.records import State


@dataclass(frozen=True)
class Summary:
    """What one judge was asked about one criterion.

    Attributes:
        states: judgments by state.
        prompt_tokens, cached_tokens, completion_tokens: of all answers, those too that a later one replaced.
        attempts: calls made, failed ones too.
        first, last: when the oldest and the newest answer came, UTC, ISO 8601.
    """

    model: str
    base_url: str
    criterion: str
    states: dict[State, int]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    attempts: int
    first: str
    last: str


def summarise(database: sqlite3.Connection) -> list[Summary]:
    """One entry per model, base URL and criterion, in this order."""
    states = ",".join(f"sum(state = '{state}')" for state in State)
    query = f"""
        SELECT model, base_url, criterion, total(prompt_tokens), total(cached_tokens), total(completion_tokens),
            sum(attempts), min(nullif(created, '')), max(created), {states}
        FROM judgments GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    """
    return [_summarise(*row) for row in database.execute(query)]


def _summarise(
    model: str,
    base_url: str,
    criterion: str,
    prompt: float,
    cached: float,
    completion: float,
    attempts: int,
    first: str | None,
    last: str,
    *states: int,
) -> Summary:
    by_state = {state: n for state, n in zip(State, states, strict=True) if n}
    tokens = (int(prompt), int(cached), int(completion))
    return Summary(model, base_url, criterion, by_state, *tokens, attempts, first or "", last)
