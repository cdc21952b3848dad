"""A judge and questions for tests that ask nobody."""

from dataclasses import replace
from typing import Any

from sacpo_exp.config.judges import AskVia, OpenAIJudgeConfig, PriceConfig, PricesConfig
from sacpo_exp.evaluation.ledger import Question

PRICES = PricesConfig(
    read="2026-06-04",
    source="tests",
    batch_factor=0.5,
    models={"big": PriceConfig(2.0, 8.0, 0.5), "small": PriceConfig(1.0, 4.0)},
)


def make_judge(**changes: Any) -> OpenAIJudgeConfig:
    """A judge of 2, 8 and 0.5 dollars per million tokens in, out and cached, who writes up to 100 of them."""
    judge = OpenAIJudgeConfig(
        model="big", via=AskVia.chat, max_tokens=100, structured=False, ask_again=[], prices=PRICES
    )
    return replace(judge, **changes)


def make_question(content: str = "x" * 400) -> Question:
    """A question that is about 108 tokens long unless told otherwise: 100 of its text, 8 around it."""
    return Question(
        "safety",
        "p",
        "prompt",
        "first",
        "second",
        0,
        "big",
        "http://localhost/v1",
        {},
        "t@0",
        (("user", content),),
        (1, 10),
    )
