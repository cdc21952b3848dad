"""What a number of prompts can show and what the search costs at most, before anything is spent."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.studies import ChooseConfig
from sacpo_exp.evaluation.contests import Contest
from sacpo_exp.evaluation.entrants import enter_policies
from sacpo_exp.evaluation.judges.absolute import AbsoluteJudge, criteria_with_zero
from sacpo_exp.evaluation.judges.costs import add_up, describe_estimate
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.pipeline import Run
from sacpo_exp.reporting.planning import print_artifacts
from sacpo_exp.statistics.selection import MOST_PROMPTS, Outcome, count_prompts, find_p_value, find_power
from sacpo_exp.studies.choosing.candidates import Candidate
from sacpo_exp.studies.choosing.search import find_criterion, find_outcome


def enter_all(candidates: Sequence[Candidate]) -> Contest:
    """Return one contest of the whole family, which is only described: the search judges one after the other."""
    contests = [enter_policies(candidate.run) for candidate in candidates if candidate.run]
    others = [entrant for contest in contests for entrant in contest.entrants[1:]]
    return replace(contests[0], entrants=(contests[0].baseline, *others))


def describe_prospects(contest: Contest, config: ChooseConfig) -> Iterator[str]:
    """Yield what the prompts of the contest can certify, for each constraint."""
    has_zero = criteria_with_zero(config.judge, config) if isinstance(config.judge, AbsoluteJudge) else []
    for name, threshold in config.limits.items():
        criterion = find_criterion(contest.criteria, name)
        n = sum(criterion.counts(prompt.get("kind")) for prompt in contest.prompts)
        measured = f"{name} {config.measure.value.replace('_', ' ')}"
        yield foresee(measured, threshold, n, find_outcome(config, name, has_zero), config, len(contest.entrants) - 1)


def foresee(name: str, threshold: float, n: int, outcome: Outcome, config: ChooseConfig, policies: int) -> str:
    """Return the power of n prompts for a policy `margin` above the threshold, and how many prompts it needs.

    Where less than twice the margin is left above the threshold, half of what is left is used instead.
    """
    level = config.level if config.is_sequence else config.level / policies  # of the first test
    truth = threshold + min(config.margin, (1 - threshold) / 2)
    needed = count_prompts(threshold, truth, level, outcome, config.power)
    many = f"more than {MOST_PROMPTS:,}" if needed is None else f"about {needed:,}"
    if find_p_value(np.ones(n), threshold, level, outcome) > level:
        text = f"{n} prompts can't certify {name} ≥ {threshold:g}, even if all have the best verdict"
    else:
        power = find_power(n, threshold, truth, level, outcome)
        text = (
            f"{n} prompts certify {name} ≥ {threshold:g} for a policy with a true {truth:.3g} in {power:.0%} of cases"
        )
    return f"{text}; {config.power:.0%} takes {many} prompts."


def print_order(candidates: Sequence[Candidate], config: ChooseConfig) -> None:
    """Print which policies are tested, and in which order."""
    titles = ", ".join(candidate.title for candidate in candidates)
    print(f"tests {titles}: {'in this order until the first that fails' if config.is_sequence else 'all of them'}")


def print_search(run: Run, contest: Contest, candidates: Sequence[Candidate], config: ChooseConfig) -> None:
    """Print the artifacts and calls of the whole family; a sequence that ends early needs fewer."""
    print_order(candidates, config)
    made = [spec for candidate in candidates if candidate.run for spec in candidate.run.plan.made()]
    responses = [entrant.responses for entrant in contest.entrants]
    print_artifacts(run, list(dict.fromkeys([run.plan.model, *made, *responses, *list_judgments(run, contest)])))
    if isinstance(config.judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import estimate_calls

        print(describe_estimate(add_up(estimate_calls(run, contest, config.judge).values()), config.judge))
