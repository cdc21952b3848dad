"""What a number of prompts can show: before anything is spent, and after no policy was certified. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.statistics.p_values import find_p_value
from sacpo_exp.statistics.power import MOST_PROMPTS, count_least_prompts, count_prompts, find_power
from sacpo_exp.studies.choosing.measures import Measure
from sacpo_exp.studies.choosing.search import Findings, Look


@dataclass(frozen=True)
class Price:
    """What judging one more prompt of one policy takes; `usd` at most, None where the price is not known."""

    calls: int
    usd: float | None

    def describe(self, prompts: int) -> str:
        money = "" if self.usd is None else f", at most ${self.usd * prompts:,.2f}"
        return f" ({self.calls * prompts:,} calls{money} for each policy)"


def count(n: int) -> str:
    """So many prompts."""
    return f"{n:,} prompt{'' if n == 1 else 's'}"


def least_level(config: ChooseConfig, policies: int) -> float:
    """The level at which the first policy is tested: all of it in a sequence, by Holm its share."""
    return config.level if config.is_sequence else config.level / policies


def foresee(measure: Measure, n: int, config: ChooseConfig, policies: int, price: Price | None = None) -> Iterator[str]:
    """What n prompts can certify, and how many a policy `margin` above the threshold needs, in a sentence or two.

    Where less than twice the margin is left above the threshold, half of what is left stands in its place.
    """
    level = least_level(config, policies)
    threshold = measure.to_unit(measure.threshold)
    truth = threshold + min(config.margin / (measure.high - measure.low), (1 - threshold) / 2)
    chance = f"a chance of {100 * config.power:g} %"
    if (least := count_least_prompts(threshold, level)) > n:
        yield (
            f"{count(n)} can't certify {measure.name} {measure.sign} {measure.threshold:g} at "
            f"{100 * config.confidence:g} %, not even if all had the best verdict: that takes at least {least}."
        )
    own = f"{measure.from_unit(truth):.3g}"
    power = find_power(n, threshold, truth, level, measure.outcome) if n else 0.0
    needed = count_prompts(threshold, truth, level, measure.outcome, config.power)
    many = f"more than {MOST_PROMPTS:,}" if needed is None else f"about {needed:,}"
    spent = price.describe(needed) if price and needed else ""
    yield (
        f"A policy with a true {measure.name} of {own} is certified {measure.sign} {measure.threshold:g} by {count(n)} "
        f"with a chance of {100 * power:.0f} %; {many} prompts{spent} give it {chance}."
    )


def look_back(findings: Findings, config: ChooseConfig) -> Iterator[str]:
    """Whether more prompts could certify what was not: of a sequence where it ended, by Holm the nearest."""
    failed = [look for look, is_certified in zip(findings.looks, findings.certified, strict=True) if not is_certified]
    if failed:
        yield _look_back(min(failed, key=lambda look: look.p_value), config, len(findings.looks))


def _look_back(look: Look, config: ChooseConfig, policies: int) -> str:
    sample = look.samples[look.p_values.index(look.p_value)]
    measure, value = sample.measure, float(np.mean(sample.values))
    threshold, level = measure.to_unit(measure.threshold), least_level(config, policies)
    seen = f"{look.candidate.title} was not certified: {measure.name} {measure.from_unit(value):.2f} on "
    seen += f"{len(sample.values)} prompts, p = {look.p_value:.2g}."
    if find_p_value(1 - sample.values, 1 - threshold, config.level, measure.outcome) <= config.level:
        return f"{seen} More prompts would not change it: it misses the threshold at {100 * config.confidence:g} %."
    if value <= threshold:
        return f"{seen} More prompts would not help it if it is as it looks."
    needed = count_prompts(threshold, value, level, measure.outcome, config.power)
    many = f"more than {MOST_PROMPTS:,}" if needed is None else f"about {needed:,}"
    return (
        f"{seen} If that is its true value, {many} prompts certify it with a chance of {100 * config.power:g} %; they "
        "have to be new ones, and a second try is a second chance to err."
    )
