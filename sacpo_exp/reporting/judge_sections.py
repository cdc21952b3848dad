"""Tables about the judge: how accurate it is, how it behaves, what it costs."""

from collections.abc import Sequence

from sacpo_exp.evaluation.ledger.records import State
from sacpo_exp.reporting.conduct import Conduct
from sacpo_exp.reporting.numbers import NOTHING, format_estimate, format_number
from sacpo_exp.reporting.scores import JudgeAccuracy
from sacpo_exp.reporting.section import Section
from sacpo_exp.reporting.usage import Usage


def judge_section(accuracies: Sequence[JudgeAccuracy]) -> Section:
    """Held-out accuracy of a fitted judge."""
    rows = [["criterion", "judge", "length only", "keyword", "n"]]
    for row in accuracies:
        baselines = [format_number(row.length_only, ".2f"), format_number(row.keyword, ".2f")]
        rows.append([row.criterion, format_estimate(row.accuracy), *baselines, str(row.accuracy.n or NOTHING)])
    note = "Accuracy on held-out comparisons. A judge no better than length only or keyword can't tell policies apart."
    if not accuracies:
        note = "Nothing is stored about the accuracy of this judge."
    return Section("Judge", rows, 1, note)


def conduct_section(conducts: Sequence[Conduct], confidence: str) -> Section:
    """Failures and position bias of a judge that is asked."""
    rows = [["matches of", "criterion", "judgments", "flips", "prefers first", "ties", "repeat SD"]]
    for row in conducts:
        bias = row.bias
        estimates = [format_estimate(entry) for entry in (bias.flip_rate, bias.first_rate, bias.tie_rate)]
        states = "/".join(str(row.states[state]) for state in State)
        deviation = format_number(bias.repeat_deviation.value, ".2f")
        rows.append([row.title, row.criterion.name, states, *estimates, deviation])
    note = (
        f"Judgments: {'/'.join(State)}. Shares are of those with a verdict [{confidence} interval over prompts].\n"
        "Flips: another winner when the answers change places. A judge that prefers the first answer whatever it says "
        "flips\nalways, and its win rates say nothing, however narrow their intervals."
    )
    return Section("Conduct of the judge", rows, 2, note)


def usage_section(usage: Usage) -> Section:
    """What judging cost."""
    usd = NOTHING if usage.usd is None else f"{usage.usd:.2f}"
    counts = (usage.judgments, usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    rows = [["judgments", "calls", "tokens in", "of them cached", "tokens out", "US dollars"]]
    rows.append([*(f"{count:,}" for count in counts), usd])
    note = f"As counted by the server, shared judgments once; prices of {usage.prices}."
    if usage.usd is None:
        note = "As counted by the server, shared judgments once; the price of this judge is not known."
    return Section("Cost of judging", rows, 0, note)
