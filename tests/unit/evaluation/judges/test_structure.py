"""The form to which a server can hold the judge is one that the parser reads."""

import itertools
import json

import pytest

from sacpo_exp.evaluation.judges.parsing import read_refusal, read_scores
from sacpo_exp.evaluation.judges.structure import label_schema, scores_schema


def test_every_answer_of_the_schema_is_read_as_these_two_scores() -> None:
    schema = scores_schema((1, 10))["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"]
    allowed = [schema["properties"][name]["enum"] for name in schema["required"]]
    for pair in itertools.product(*allowed):
        written = json.dumps(dict(zip(schema["required"], pair, strict=True)), indent=2)
        assert read_scores(written, "stop", (1, 10)).scores == pair


@pytest.mark.parametrize("label", label_schema()["json_schema"]["schema"]["properties"]["label"]["enum"])
def test_every_label_of_the_schema_is_read(label: str) -> None:
    assert read_refusal(json.dumps({"label": label}), "stop").label == label


def test_only_whole_numbers_within_the_scale_are_allowed() -> None:
    assert scores_schema((0.5, 3))["json_schema"]["schema"]["properties"]["first"]["enum"] == [1, 2, 3]
