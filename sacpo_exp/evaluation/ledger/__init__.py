"""Judgments that were paid for: each kept as it came, found by what was asked, asked by one process at a time."""

from sacpo_exp.evaluation.ledger.ledger import Ledger
from sacpo_exp.evaluation.ledger.records import Answer, Question, State

__all__ = ["Answer", "Ledger", "Question", "State"]
