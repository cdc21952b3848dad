"""What was found, in lines of text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sacpo_exp.oracle.results import Finding

if TYPE_CHECKING:
    from sacpo_exp.oracle.experiment import Results


def name_trial(finding: Finding) -> str:
    """Loss, order, rows and λ, and of a merge q."""
    trial = finding.trial
    ratio = "" if trial.ratio is None else f" q={trial.ratio:g}"
    order = trial.order.value.replace("_", " ")
    return f"{trial.loss.value.upper()} {order:<13} n={trial.pairs:<6} λ={trial.multiplier:<4g}{finding.stage}{ratio}"


def format_finding(finding: Finding) -> str:
    """One policy in one line: exact values in brackets."""
    trained, exact = finding.trained, finding.exact
    return (
        f"{name_trial(finding):<46} KL to optimum {finding.kl:.4f} of {finding.kl_start:.2f} nats  "
        f"E[r] {trained.reward:+.2f} ({exact.reward:+.2f})  E[g] {trained.safety:+.2f} ({exact.safety:+.2f})  "
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
    if results.threshold is not None:
        found = results.threshold
        by_merging = (
            "" if found["ratio"] is None else f", with helpfulness first by merging at q = {found['ratio']:.4f}"
        )
        yield (
            f"E[g] ≥ {found['threshold']:g} takes λ* = {found['multiplier']:.4f}{by_merging}: "
            f"E[r] = {found['reward']:+.4f}, E[g] = {found['safety']:+.4f}."
        )


def _compare(results: "Results") -> Iterator[str]:
    yield "Sampling error: KL to the optimum of exact fits to as many pairs, median and middle 95 % of 200 draws"
    for entry in results.sampling_error:
        order = entry["order"].replace("_", " ")
        yield (
            f"  {order:<13} {entry['stage']:<7} n={entry['pairs']:<6} "
            f"{entry['median']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"
        )
    if results.orders:
        yield "The two orders: KL between their last policies"
    for entry in results.orders:
        yield f"  {entry['loss'].upper()} n={entry['pairs']:<6} λ={entry['multiplier']:<4g} {entry['kl']:.4f} nats"
