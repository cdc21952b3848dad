"""Cost of asking: an estimate before the first call, a budget while asking. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sacpo_exp.config.judges import OpenAIJudgeConfig, PriceConfig
from sacpo_exp.data.tokenising import CHARACTERS_PER_TOKEN
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.records import Answer, Question

#: Tokens around each message, and around all of them, in chat formats.
PER_MESSAGE: Final = 4
DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class CostEstimate:
    """Calls, tokens in as counted by their characters, tokens out and US dollars at most; None: price not known."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


def find_price(judge: OpenAIJudgeConfig) -> PriceConfig | None:
    """Return `judge.price` if given, else that of the model in the table, also by its name without a date."""
    if judge.price.input is not None:
        return judge.price
    return judge.prices.models.get(judge.model) or judge.prices.models.get(DATE.sub("", judge.model))


def require_price(judge: OpenAIJudgeConfig) -> None:
    """Raise ConfigError for a budget in dollars where the price is not known."""
    if judge.budget_usd is not None and find_price(judge) is None:
        raise ConfigError(
            f"`judge.budget_usd` can't be kept: the price of {judge.model} is not in the table of {judge.prices.read}. "
            "Try: judge.price='{input: 1, output: 2}' (US dollars per million tokens), or judge.max_calls=N"
        )


def price_tokens(judge: OpenAIJudgeConfig, prompt: int, cached: int, completion: int) -> float | None:
    """Return the US dollars for tokens, of which `cached` are among those of the prompt; None: price not known."""
    if (price := find_price(judge)) is None:
        return None
    full, written = price.input or 0.0, price.output or 0.0
    reread = full if price.cached_input is None else price.cached_input
    return ((prompt - cached) * full + cached * reread + completion * written) / 1e6


def estimate(questions: Sequence[Question], judge: OpenAIJudgeConfig) -> CostEstimate:
    """Return what asking all of them once costs at most, with tokens in as counted by their characters."""
    prompt = completion = 0
    for question in questions:
        completion += question.sampling.get(judge.token_limit.value, judge.max_tokens)
        characters = sum(len(content) for _, content in question.messages)
        prompt += -(-characters // CHARACTERS_PER_TOKEN) + PER_MESSAGE * (len(question.messages) + 1)
    return CostEstimate(len(questions), prompt, completion, price_tokens(judge, prompt, 0, completion))


def add_up(costs: Iterable[CostEstimate]) -> CostEstimate:
    """Return the sum; without a price where one of them has none."""
    costs = list(costs)
    known = [cost.usd for cost in costs if cost.usd is not None]
    return CostEstimate(
        sum(cost.calls for cost in costs),
        sum(cost.prompt_tokens for cost in costs),
        sum(cost.completion_tokens for cost in costs),
        sum(known) if len(known) == len(costs) else None,
    )


def price_source(judge: OpenAIJudgeConfig) -> str:
    """Return where the price of a judge is from."""
    return "judge.price" if judge.price.input is not None else f"prices of {judge.prices.read}"


def describe_estimate(cost: CostEstimate, judge: OpenAIJudgeConfig) -> str:
    """Return the estimate in one line."""
    return describe_cost(cost, judge.model, price_source(judge))


def describe_cost(cost: CostEstimate, model: str, source: str) -> str:
    """Return the estimate in one line; `source`: where the price is from."""
    money = f"the price of {model} is not known" if cost.usd is None else f"at most {dollars(cost.usd)} ({source})"
    return (
        f"judges   {cost.calls:,} calls to {model}: about {cost.prompt_tokens:,} tokens in, "
        f"at most {cost.completion_tokens:,} out; {money}"
    )


def dollars(usd: float) -> str:
    """Return an amount for people; small ones keep two digits."""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.01 else f"${usd:.2g}"


class Budget:
    """Calls and US dollars of one command; calls in flight, and those of unknown cost, count at their worst case."""

    def __init__(self, judge: OpenAIJudgeConfig) -> None:
        self._judge = judge
        self.calls, self.usd = 0, 0.0

    def reserve(self, question: Question) -> str | None:
        """Take the worst case of a call from what is left; if it does not fit, return the limit that is reached."""
        if self._judge.max_calls is not None and self.calls >= self._judge.max_calls:
            return f"`judge.max_calls` = {self._judge.max_calls:,}"
        cost = estimate([question], self._judge).usd or 0.0
        if self._judge.budget_usd is not None and self.usd + cost > self._judge.budget_usd:
            return f"`judge.budget_usd` = {self._judge.budget_usd:g}"
        self.calls += 1
        self.usd += cost
        return None

    def settle(self, question: Question, answer: Answer) -> None:
        """Replace the worst case of a call by its cost, if the server has told its tokens."""
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if prompt is not None and completion is not None:
            cost = price_tokens(self._judge, prompt, min(answer.cached_tokens or 0, prompt), completion)
            self.usd += (cost or 0.0) - (estimate([question], self._judge).usd or 0.0)
