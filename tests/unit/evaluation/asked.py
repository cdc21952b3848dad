"""Judges, questions and answers for tests that ask nobody."""

from typing import Any

from sacpo_exp.config.judges import OpenAIJudgeConfig, PriceConfig, PricesConfig, TokenLimit
from sacpo_exp.evaluation.records import Answer, Question, State

OK = Answer(State.ok, "8 9", "stop", created="2026-01-02T03:04:05+00:00")
FAILED = Answer(State.failed, error="timed out", attempts=8, created="2026-01-02T03:04:05+00:00")
PRICES = PricesConfig("2026-06-04", "tests", {"big": PriceConfig(2.0, 8.0, 0.5), "small": PriceConfig(1.0, 4.0)})


def make_judge(**changes: Any) -> OpenAIJudgeConfig:
    """A judge of 2, 8 and 0.5 dollars per million tokens in, out and cached, who writes up to 100 of them."""
    values: dict[str, Any] = {"model": "big", "max_tokens": 100}
    values |= {"token_limit": TokenLimit.max_tokens}
    values |= {"structured": False, "ask_again": [], "prices": PRICES, "template": "default", "repeats": 1}
    return OpenAIJudgeConfig(**values | {"min_score": 1.0, "max_score": 10.0} | changes)


def make_question(name: str = "a", content: str = "x" * 400, **changes: Any) -> Question:
    """A question about two responses with `name` in its texts, about 108 tokens long: 100 of its content, 8 around."""
    texts = {"prompt": f"prompt {name}", "first": f"first response {name}", "second": f"second response {name}"}
    values: dict[str, Any] = texts | {"criterion": "safety", "prompt_id": f"id-{name}", "repeat": 0}
    values |= {"sampling": {"temperature": 0.7, "seed": 1, "stop": None}, "template": f"{name}@0", "scale": (1.0, 10.0)}
    values |= {"model": "judge", "base_url": "http://localhost/v1", "messages": (("user", content),)}
    return Question(**(values | changes))
