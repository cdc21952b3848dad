"""The policies of a family in the order of their tests, each with a function that returns its verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.schema import MergeMethod
from sacpo_exp.config.stages import policy_of
from sacpo_exp.config.studies import ChooseConfig, Over
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import Contest, enter_policies
from sacpo_exp.evaluation.judges.costs import add_up, describe_estimate
from sacpo_exp.evaluation.judging import judge_contest, list_judgments
from sacpo_exp.pipeline import Run, ready_policies
from sacpo_exp.plan import make_plan
from sacpo_exp.reporting.collect import Evaluation, Group, collect_groups, read_evaluation
from sacpo_exp.reporting.planning import print_artifacts
from sacpo_exp.reporting.tracking import track_made
from sacpo_exp.store import Manifest, Store

#: What `Candidate.number` is.
AXES = {Over.merge_ratio: "q", Over.beta: "β", Over.policies: ""}


@dataclass(frozen=True)
class Candidate:
    """A policy that may be chosen.

    Attributes:
        number: its q or β; None where the family has no such order.
        look: returns its verdicts against the baseline after merging, generating and judging what is missing; None
            while a judge is still at work.
        run: its plan; None for policies that were judged before.
    """

    title: str
    number: float | None
    look: Callable[[], Evaluation | None]
    run: Run | None = None


def list_candidates(run: Run, config: ChooseConfig) -> list[Candidate]:
    """Return a candidate for every entry of `grid`, the one that is the safest in theory first."""
    candidates = []
    for number in map(float, sorted(config.family, reverse=is_safe_end_high(config))):
        changed = set_number(config, number)
        own = replace(run, config=changed, plan=make_plan(changed, run.fingerprints))
        candidates.append(Candidate(f"{AXES[config.over]} = {number:g}", number, partial(judge_policy, own), own))
    return candidates


def is_safe_end_high(config: ChooseConfig) -> bool:
    """Return whether the largest q or β keeps the constraints best in theory.

    q is the weight of the second stage. β holds the last stage to those before it: a small β is safe where the last
    stage is for a constraint, a large one where it is not.
    """
    return (config.last_criterion in config.limits) == (config.over == Over.merge_ratio)


def set_number(config: ChooseConfig, number: float) -> ChooseConfig:
    """Return the configuration that selects the policy with this q or β; the ends of q need no merge."""
    if config.over == Over.merge_ratio:
        if number in (0, 1) and config.merge == MergeMethod.linear:
            return replace(config, merge_ratio=None, merge_weights=None, policies=[policy_of(int(number))])
        return replace(config, merge_ratio=number, merge_weights=None, policies=["merged"])
    name = config.last_criterion or ""
    return replace(config, beta=number, stages=config.stages | {name: replace(config.stages[name], beta=number)})


def judge_policy(run: Run) -> Evaluation | None:
    """Evaluate the one selected policy as `eval` does, without divergence."""
    ready_policies(run, run.plan.selected(run.config.policies))
    judged = judge_contest(run, enter_policies(run))
    if not judged:
        return None
    track_made(run)
    return read_evaluation(run.store, (judged[-1], Manifest.read(judged[-1])), [])


def list_judged(store: Store, config: ChooseConfig) -> list[Candidate]:
    """Return the policies that `grid` names by id or title, all from the newest group that has them.

    A group of this `judge` and these `prompts` is preferred.

    Raises:
        ConfigError: a name matches no judged policy or several, or no group has them all.
        MissingArtifactError: nothing has been judged.
    """
    names = [str(name) for name in config.family]
    groups = collect_groups(store, None, None)
    for name in names:
        if not any(_find(group, name) for group in groups):
            raise ConfigError(f"`grid` must name judged policies, but {name} is none. `sacpo report` lists them.")
    common = [group for group in groups if all(_find(group, name) for name in names)]
    if not common:
        raise ConfigError(
            "`grid` must name policies that one judge has judged on the same prompts against the same responses, but "
            f"{', '.join(names)} were not. `sacpo report` shows which were."
        )
    wanted = {"judge": config.judge.name, "prompts": config.prompts.name}
    group = ([group for group in common if wanted.items() <= group.policies[0].labels.items()] or common)[-1]
    candidates = []
    for name in names:
        first, *others = _find(group, name)
        if others:
            ids = ", ".join(policy.id for policy in (first, *others))
            raise ConfigError(f"`grid` must name one policy by each entry, but {name} matches {ids}.")
        candidates.append(Candidate(first.title, None, partial(replace, first)))
    return candidates


def _find(group: Group, name: str) -> list[Evaluation]:
    """Return the policies with this id, else those with this title or name."""
    exact = [policy for policy in group.policies if policy.id == name]
    return exact or [policy for policy in group.policies if name in (policy.title, policy.labels["policy"])]


def enter_all(candidates: Sequence[Candidate]) -> Contest:
    """Return one contest of the whole family, which is only described: the search judges one after the other."""
    contests = [enter_policies(candidate.run) for candidate in candidates if candidate.run]
    others = [entrant for contest in contests for entrant in contest.entrants[1:]]
    return replace(contests[0], entrants=(contests[0].baseline, *others))


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
