"""What asking costs: before the first call an estimate, while asking a budget. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sacpo_exp.config.judges import AskVia, OpenAIJudgeConfig, PriceConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.ledger.records import Answer, Question

MILLION: Final = 1e6
#: OpenAI's rule of thumb for English.
CHARACTERS_PER_TOKEN: Final = 4
#: Tokens around each message, and around all of them, in chat formats.
PER_MESSAGE: Final = 4
DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class CostEstimate:
    """Of calls to be made: tokens in as counted by their characters, tokens out and US dollars at most.

    `usd` is None where the price is not known.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


def find_price(judge: OpenAIJudgeConfig) -> PriceConfig | None:
    """`judge.price` if given, else that of the model in the table, also by its name without a date; else None."""
    if judge.price.input is not None:
        return judge.price
    return judge.prices.models.get(judge.model) or judge.prices.models.get(DATE.sub("", judge.model))


def require_price(judge: OpenAIJudgeConfig) -> None:
    """Raises ConfigError for a budget in dollars where the price is not known."""
    if judge.budget_usd is not None and find_price(judge) is None:
        raise ConfigError(
            f"`judge.budget_usd` can't be kept: the price of {judge.model} is not in the table of {judge.prices.read}. "
            "Try: judge.price='{input: 1, output: 2}' (US dollars per million tokens), or judge.max_calls=N"
        )


def price_factor(judge: OpenAIJudgeConfig, via: str) -> float:
    """What a call costs relative to the usual price."""
    return judge.prices.batch_factor if via == AskVia.batch.value else 1.0


def cost_usd(price: PriceConfig, prompt: int, cached: int, completion: int, factor: float = 1.0) -> float:
    """US dollars for tokens; `cached` are among those of the prompt."""
    full, written = price.input or 0.0, price.output or 0.0
    reread = full if price.cached_input is None else price.cached_input
    return factor * ((prompt - cached) * full + cached * reread + completion * written) / MILLION


def estimate_tokens(question: Question) -> int:
    """Tokens that a question sends, by its characters."""
    characters = sum(len(content) for _, content in question.messages)
    return -(-characters // CHARACTERS_PER_TOKEN) + PER_MESSAGE * (len(question.messages) + 1)


def estimate(questions: Sequence[Question], judge: OpenAIJudgeConfig) -> CostEstimate:
    """What asking all of them once costs at most, if tokens have the usual length and nothing has to be repeated."""
    prompt = sum(map(estimate_tokens, questions))
    completion = len(questions) * judge.max_tokens
    price = find_price(judge)
    usd = None if price is None else cost_usd(price, prompt, 0, completion, price_factor(judge, judge.via.value))
    return CostEstimate(len(questions), prompt, completion, usd)


def add_up(costs: Iterable[CostEstimate]) -> CostEstimate:
    """The sum; without a price where one of them has none."""
    costs = list(costs)
    known = [cost.usd for cost in costs if cost.usd is not None]
    return CostEstimate(
        sum(cost.calls for cost in costs),
        sum(cost.prompt_tokens for cost in costs),
        sum(cost.completion_tokens for cost in costs),
        sum(known) if len(known) == len(costs) else None,
    )


def price_source(judge: OpenAIJudgeConfig) -> str:
    """Where the price of a judge is from."""
    return "judge.price" if judge.price.input is not None else f"prices of {judge.prices.read}"


def describe_estimate(cost: CostEstimate, judge: OpenAIJudgeConfig) -> str:
    """The estimate in one line."""
    return describe_cost(cost, judge.model, price_source(judge))


def describe_cost(cost: CostEstimate, model: str, source: str) -> str:
    """`describe_estimate` for who knows the judge's model only, and `price_source`."""
    money = f"the price of {model} is not known" if cost.usd is None else f"at most {dollars(cost.usd)} ({source})"
    return (
        f"judges   {cost.calls:,} calls to {model}: about {cost.prompt_tokens:,} tokens in, "
        f"at most {cost.completion_tokens:,} out; {money}"
    )


def dollars(usd: float) -> str:
    """An amount for people, of which small ones keep two digits."""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.01 else f"${usd:.2g}"


class Budget:
    """Money and calls of one command: what is spent, and what calls in flight may still cost.

    Args:
        judge: `budget_usd` and `max_calls`, the price, and the way of asking.
    """

    def __init__(self, judge: OpenAIJudgeConfig) -> None:
        self._judge, self._price = judge, find_price(judge)
        self._factor = price_factor(judge, judge.via.value)
        self._reserved = 0.0
        self.calls, self.in_flight, self.usd = 0, 0, 0.0

    def worst_case(self, question: Question) -> float:
        """US dollars that one call costs at most."""
        if self._price is None:
            return 0.0
        return cost_usd(self._price, estimate_tokens(question), 0, self._judge.max_tokens, self._factor)

    def reserve(self, question: Question) -> str | None:
        """Take the worst case of a call from what is left; if it does not fit, say which limit is reached."""
        if self._judge.max_calls is not None and self.calls >= self._judge.max_calls:
            return f"`judge.max_calls` = {self._judge.max_calls:,}"
        cost = self.worst_case(question)
        if self._judge.budget_usd is not None and self.usd + self._reserved + cost > self._judge.budget_usd:
            return f"`judge.budget_usd` = {self._judge.budget_usd:g}"
        self.calls += 1
        self.in_flight += 1
        self._reserved += cost
        return None

    def settle(self, question: Question, answer: Answer | None, is_free: bool = False) -> None:
        """Put what a call really cost in place of its worst case, which stays where nobody says what it was."""
        worst = self.worst_case(question)
        self.in_flight -= 1
        self._reserved = self._reserved - worst if self.in_flight else 0.0
        if answer is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            self.usd += 0.0 if is_free else worst
        elif self._price:
            cached = min(answer.cached_tokens or 0, answer.prompt_tokens)
            self.usd += cost_usd(self._price, answer.prompt_tokens, cached, answer.completion_tokens, self._factor)
