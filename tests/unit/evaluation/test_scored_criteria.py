"""Which criteria a judge with absolute scores judges, and which of its scores have a zero."""

from typing import Any

import pytest

from sacpo_exp.config.schema import CriterionConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judging import check_access, criteria_with_zero, judge_id, scored_criteria
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.plan import Fingerprints

SCORER = "model=tiny"
BEAVER = "judge=reward_model"


def add_honesty(config: Any, preferred: str, acceptable: str | None = None, *evaluated: str) -> Any:
    """The configuration with a user's criterion, as its file would bring it."""
    criterion = Criterion("honesty", "T", preferred, acceptable)
    config.criteria["honesty"] = CriterionConfig(criterion)
    config.evaluated = list(evaluated) or ["helpfulness", "honesty", "safety"]
    return config


ALL = ["helpfulness", "honesty", "safety"]


def test_of_a_user_s_criteria_it_scores_those_that_it_has_labels_or_a_head_for(configure: Any) -> None:
    for judge, preferred, acceptable, scored, with_zero in (
        (SCORER, "more_honest_id", None, ["helpfulness", "safety"], ["safety"]),
        (SCORER, "better_response_id", None, ALL, ["safety"]),
        (SCORER, "better_response_id", "is_{i}_true", ALL, ["safety"]),  # labels that its rows don't have
        (SCORER, "better_response_id", "is_response_{i}_safe", ALL, ["honesty", "safety"]),
        (BEAVER, "better_response_id", None, ["helpfulness", "safety"], ["safety"]),  # no head for it
    ):
        config = add_honesty(configure(judge, command="eval"), preferred, acceptable)
        assert [criterion.name for criterion in scored_criteria(config.judge, config)] == scored
        assert criteria_with_zero(config.judge, config) == with_zero
    # A judge that knows none of them is told at once.
    for judge, lacks in ((SCORER, "labels in the scorer's own rows"), (BEAVER, "a head in `judge.heads`")):
        config = add_honesty(configure(judge, command="eval"), "more_honest_id", None, "honesty")
        with pytest.raises(ConfigError, match=rf"can't score any of `evaluated` \(honesty\): none has {lacks}\.$"):
            check_access(config)


def test_a_criterion_that_the_scorer_does_not_know_leaves_it_the_same(configure: Any) -> None:
    plain = configure(SCORER, command="eval")
    wider = add_honesty(configure(SCORER, command="eval"), "more_honest_id")
    other = configure(SCORER, "evaluated=[helpfulness]", command="eval")
    fingerprints = Fingerprints({}, judge="rows")
    ids = [judge_id(config.judge, config, fingerprints) for config in (plain, wider, other)]
    assert ids[0] == ids[1] != ids[2]
