"""What asking costs: prices, the estimate before the first call, and the budget while asking."""

from dataclasses import replace

import pytest
from asked import OK, make_judge, make_question
from hypothesis import given
from hypothesis import strategies as st

from sacpo_exp.config.judges import PriceConfig
from sacpo_exp.evaluation.judges.costs import (
    Budget,
    describe_estimate,
    dollars,
    estimate,
    find_price,
    price_tokens,
)

WORST = (108 * 2 + 100 * 8) / 1e6
ANSWER = replace(OK, prompt_tokens=100, cached_tokens=40, completion_tokens=10)


def test_a_price_is_found_by_the_name_with_or_without_its_date() -> None:
    for model, expected in (("big", 2.0), ("big-2026-03-17", 2.0), ("big-2026-03-17-preview", None), ("bigger", None)):
        price = find_price(make_judge(model=model))
        assert (price and price.input) == expected
        assert find_price(make_judge(model=model, price=PriceConfig(0.0, 0.0))) == PriceConfig(0.0, 0.0)


def test_cached_tokens_cost_what_the_table_says_or_else_as_much_as_others() -> None:
    assert price_tokens(make_judge(), 1000, 400, 100) == pytest.approx((600 * 2 + 400 * 0.5 + 800) / 1e6)
    judge = make_judge(price=PriceConfig(2.0, 8.0))
    assert price_tokens(judge, 1000, 400, 100) == pytest.approx((1000 * 2 + 800) / 1e6)


def test_the_estimate_is_the_worst_case_of_all_calls_and_names_its_prices() -> None:
    assert estimate([make_question(content="x" * 401)], make_judge()).prompt_tokens == 109
    cost = estimate([make_question()] * 10, make_judge())
    assert (cost.calls, cost.prompt_tokens, cost.completion_tokens) == (10, 1080, 1000)
    assert cost.usd == pytest.approx(10 * WORST)
    questions = [make_question()] * 2000
    assert describe_estimate(estimate(questions, make_judge()), make_judge()) == (
        "judges   2,000 calls to big: about 216,000 tokens in, at most 200,000 out; "
        "at most $2.03 (prices of 2026-06-04)"
    )
    unknown = make_judge(model="unheard-of")
    assert describe_estimate(estimate(questions, unknown), unknown).endswith("; the price of unheard-of is not known")
    assert [dollars(usd) for usd in (0, 0.00123, 0.01, 1234.567)] == ["$0.00", "$0.0012", "$0.01", "$1,234.57"]


def test_calls_count_at_their_worst_until_the_server_tells_their_tokens() -> None:
    budget, question = Budget(make_judge(budget_usd=2.5 * WORST)), make_question()
    assert [budget.reserve(question) for _ in range(3)] == [None, None, f"`judge.budget_usd` = {2.5 * WORST:g}"]
    budget.settle(question, replace(ANSWER, prompt_tokens=None))
    assert budget.usd == pytest.approx(2 * WORST)
    budget.settle(question, ANSWER)
    assert budget.usd == pytest.approx(WORST + (60 * 2 + 40 * 0.5 + 10 * 8) / 1e6)
    assert budget.reserve(question) is None
    limited = Budget(make_judge(model="unheard-of", max_calls=1))  # a limit on calls needs no price
    assert [limited.reserve(question) for _ in range(2)] == [None, "`judge.max_calls` = 1"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 108), st.integers(0, 100)), max_size=60), st.floats(1e-4, 0.02))
def test_a_budget_is_never_overspent(events: list[tuple[bool, int, int]], limit: float) -> None:
    budget, question, in_flight, spent = Budget(make_judge(budget_usd=limit)), make_question(), 0, 0.0
    for is_start, prompt, completion in events:
        if is_start:
            in_flight += budget.reserve(question) is None
        elif in_flight:
            answer = replace(ANSWER, prompt_tokens=prompt, cached_tokens=0, completion_tokens=completion)
            budget.settle(question, answer)
            spent += (prompt * 2 + completion * 8) / 1e6
            in_flight -= 1
        assert spent + in_flight * WORST <= limit + 1e-12
