"""Rows that tests can vary."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.config.data import DataSchema
from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.data.preferences import Preferences
from sacpo_exp.method.criteria import Criterion

HELPFULNESS, SAFETY = (shipped_criteria()[name] for name in ("helpfulness", "safety"))
#: A criterion that rows in the schema of PKU-SafeRLHF have no labels for.
HONESTY = Criterion("honesty", "T")


def write(path: Path, content: Any) -> str:
    """Write a text as it is, anything else as JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


def make_row(
    prompt: str = "Hi?", better: int = 0, safer: int = 1, safe: tuple[bool, bool] = (False, True), **more: Any
) -> Any:
    """A row for both criteria, with other fields or values from `more`."""
    row = {"prompt": prompt, "response_0": "zero", "response_1": "one", "better_response_id": better}
    return row | {"safer_response_id": safer, "is_response_0_safe": safe[0], "is_response_1_safe": safe[1]} | more


def turns(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def make_pair(prompt: str = "Hi?", chosen: str = "good", rejected: str = "bad") -> Any:
    return {"prompt": turns(prompt), "chosen": turns(chosen, "assistant"), "rejected": turns(rejected, "assistant")}


def make_completion(prompt: str = "Hi?", text: str = "good", label: bool = True) -> Any:
    return {"prompt": turns(prompt), "completion": turns(text, "assistant"), "label": label}


def preferences(form: DataSchema, rows: Sequence[Any], criterion: str | None = None) -> Preferences:
    return Preferences(form, form, criterion, tuple(rows))
