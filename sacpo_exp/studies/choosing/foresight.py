"""What a choice would make and cost at most, and what its prompts can show: before anything is spent."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.evaluation.absolute import AbsoluteJudge
from sacpo_exp.evaluation.contests import Contest, criteria_with_zero
from sacpo_exp.evaluation.entrants import enter_policies
from sacpo_exp.evaluation.judges.costs import add_up, describe_estimate
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.pipeline import Run
from sacpo_exp.reporting.planning import print_artifacts
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.studies.choosing.candidates import Candidate
from sacpo_exp.studies.choosing.measures import NO_CATEGORY, find_criterion, make_measure
from sacpo_exp.studies.choosing.prospects import Price, count, foresee


def enter_all(candidates: Sequence[Candidate]) -> Contest:
    """All policies of the family in one contest, which is only looked at: the search judges one after the other."""
    contests = [enter_policies(candidate.run) for candidate in candidates if candidate.run]
    others = [entrant for contest in contests for entrant in contest.entrants[1:]]
    first = contests[0]
    return replace(first, entrants=(first.baseline, *others))


def describe_prospects(run: Run, contest: Contest, config: ChooseConfig) -> Iterator[str]:
    """What the prompts of the contest can certify, for each constraint."""
    for constraint in config.limits:
        criterion = find_criterion(contest.criteria, constraint)
        prompts = [prompt for prompt in contest.prompts if criterion.counts(prompt.get("kind"))]
        has_zero = criteria_with_zero(config.judge, config) if isinstance(config.judge, AbsoluteJudge) else []
        measure = make_measure(config, constraint, has_zero)
        n, price = len(prompts), None
        if config.worst_category and prompts:
            counts = Counter(prompt.get("category") or NO_CATEGORY for prompt in prompts)
            name, n = min(counts.items(), key=lambda entry: entry[1])
            yield f"The smallest of {len(counts)} categories is {name} with {count(n)}."
        if isinstance(config.judge, OpenAIJudgeConfig) and prompts:
            from sacpo_exp.evaluation.asking import estimate_prompt

            cost = estimate_prompt(run, prompts[0], config.judge)
            price = Price(cost.calls, cost.usd)
        yield from foresee(measure, n, config, len(contest.entrants) - 1, price)


def print_order(candidates: Sequence[Candidate], config: ChooseConfig) -> None:
    """Print who is tested, and how."""
    titles = ", ".join(candidate.title for candidate in candidates)
    way = "in this order until the first that fails" if config.is_sequence else "all of them"
    print(f"tests {titles}: {way}")


def print_search(run: Run, contest: Contest, candidates: Sequence[Candidate], config: ChooseConfig) -> None:
    """Print what the whole family takes; a sequence that ends early takes less."""
    print_order(candidates, config)
    print_artifacts(run, list(dict.fromkeys(_list_artifacts(run, contest, candidates))))
    if isinstance(config.judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import estimate_calls

        costs = estimate_calls(run, contest, config.judge)
        print(describe_estimate(add_up(costs.values()), config.judge))


def _list_artifacts(run: Run, contest: Contest, candidates: Sequence[Candidate]) -> Iterator[ArtifactSpec]:
    yield run.plan.model
    for candidate in candidates:
        yield from candidate.run.plan.made() if candidate.run else ()
    yield from (entrant.responses for entrant in contest.entrants)
    yield from list_judgments(run, contest)
