"""A row that tests can vary, and the road that every row takes."""

from collections.abc import Sequence
from typing import Any

import yaml

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.config.loading import CONF
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.forms import normalise
from sacpo_exp.method.criteria import Criterion


def read_criterion(name: str) -> Criterion:
    """A criterion that is shipped."""
    return Criterion(**yaml.safe_load((CONF / "criterion" / f"{name}.yaml").read_text("utf-8"))["criterion"])


HELPFULNESS, SAFETY = read_criterion("helpfulness"), read_criterion("safety")
#: A criterion that rows in the schema of PKU-SafeRLHF have no labels for.
HONESTY = Criterion("honesty", "T")


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


def check_rows(rows: Sequence[Any], where: str) -> None:
    """Read these rows of a file as PKU-SafeRLHF."""
    normalise([RawRows(where, list(enumerate(rows, 1)))], DatasetConfig(schema=DataSchema.pku))
