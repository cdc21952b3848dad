"""A row that tests can vary."""

from typing import Any


def make_row(prompt: str = "Hi?", better: int = 0, safer: int = 1, safe: tuple[bool, bool] = (False, True)) -> Any:
    return {
        "prompt": prompt,
        "response_0": "zero",
        "response_1": "one",
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
        "better_response_id": better,
        "safer_response_id": safer,
    }
