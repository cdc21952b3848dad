"""What was found, in lines of text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sacpo_exp.method.losses import LOSSES
from sacpo_exp.studies.oracle.results import Finding

if TYPE_CHECKING:
    from sacpo_exp.studies.oracle.experiment import Results


def name_trial(finding: Finding) -> str:
    """Loss, order, rows and λ, and of a merge q."""
    trial = finding.trial
    ratio = "" if trial.ratio is None else f" q={trial.ratio:g}"
    return f"{name_setting(trial.loss, trial.order, trial.pairs, trial.multipliers)} {finding.stage}{ratio}"


def name_setting(loss: str, order: Sequence[str], pairs: int, multipliers: Sequence[float]) -> str:
    numbers = ",".join(f"{multiplier:g}" for multiplier in multipliers)
    return f"{LOSSES[loss].title} {name_order(order)} n={pairs:<6} λ={numbers:<4}"


def name_order(order: Sequence[str]) -> str:
    """`helpfulness→safety`."""
    return "→".join(order)


def format_finding(finding: Finding) -> str:
    """One policy in one line: exact values in brackets."""
    exact = finding.exact.values
    worth = "  ".join(f"{name} {value:+.2f} ({exact[name]:+.2f})" for name, value in finding.trained.values.items())
    return (
        f"{name_trial(finding):<52} KL to optimum {finding.kl:.4f} of {finding.kl_start:.2f} nats  {worth}  "
        f"outside {finding.outside:.2f}"
    )


def format_results(results: "Results") -> str:
    """Every policy once, and what they are to be held against."""
    findings: dict[str, Finding] = {}
    for finding in results.findings:
        findings.setdefault(finding.policy, finding)
    return "\n".join([*_explain(results), *map(format_finding, findings.values()), *_compare(results)])


def _explain(results: "Results") -> Iterator[str]:
    yield (
        f"The base is {results.nominal_kl:.4f} nats from the reference policy that it was to learn, and says something "
        f"else in {results.outside:.2%}. Optima are those of the base."
    )
    losses = dict.fromkeys(finding.trial.loss for finding in results.findings)
    if others := [LOSSES[loss].title for loss in losses if not LOSSES[loss].is_consistent]:
        yield f"Not consistent, so that Theorem 1 does not hold: {', '.join(others)}."
    if results.threshold is not None:
        found = results.threshold
        by_merging = "" if found["ratio"] is None else f", with the reward first by merging at q = {found['ratio']:.4f}"
        yield (
            f"E[g] ≥ {found['threshold']:g} takes λ* = {found['multiplier']:.4f}{by_merging}: "
            f"{', '.join(f'E[{name}] = {value:+.4f}' for name, value in found['values'].items())}."
        )


def _compare(results: "Results") -> Iterator[str]:
    yield "Sampling error: KL to the optimum of exact fits to as many pairs, median and middle 95 % of 200 draws"
    for entry in results.sampling_error:
        yield (
            f"  {name_order(entry['order'])} {entry['stage']:<7} n={entry['pairs']:<6} "
            f"{entry['median']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"
        )
    if results.orders:
        yield "Two orders: KL between their last policies"
    for entry in results.orders:
        one, other = entry["orders"]
        name = name_setting(entry["loss"], one, entry["pairs"], entry["multipliers"])
        yield f"  {name} and {name_order(other)} {entry['kl']:.4f} nats"
