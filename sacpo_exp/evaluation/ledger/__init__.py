"""Paid judgments: each stored as it came, found by its question, asked by one process at a time."""

from sacpo_exp.evaluation.ledger.ledger import Ledger
from sacpo_exp.evaluation.ledger.records import Answer, Question, State

__all__ = ["Answer", "Ledger", "Question", "State"]
