"""The policies of a family in the order of their tests, each with a function that returns its verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sacpo_exp.config.schema import MergeMethod
from sacpo_exp.config.stages import policy_of
from sacpo_exp.config.studies import ChooseConfig, Over
from sacpo_exp.evaluation.contests import Contest, enter_policies
from sacpo_exp.evaluation.judging import judge_contest, list_judgments
from sacpo_exp.pipeline import Run, ready_policies
from sacpo_exp.plan import make_plan
from sacpo_exp.reporting.collect import Evaluation, read_evaluation
from sacpo_exp.reporting.planning import print_artifacts, print_calls
from sacpo_exp.reporting.tracking import track_made
from sacpo_exp.store import Manifest

#: What `Candidate.number` is.
AXES = {Over.merge_ratio: "q", Over.beta: "β"}


@dataclass(frozen=True)
class Candidate:
    """A policy that may be chosen.

    Attributes:
        number: its q or β.
        look: returns its verdicts against the baseline after merging, generating and judging what is missing.
    """

    title: str
    number: float
    look: Callable[[], Evaluation]


def list_candidates(run: Run, config: ChooseConfig) -> tuple[list[Candidate], list[Run]]:
    """Return a candidate for every entry of `grid`, the one that is the safest in theory first, and their runs."""
    candidates, runs = [], []
    for number in map(float, sorted(config.family, reverse=is_safe_end_high(config))):
        changed = set_number(config, number)
        runs.append(replace(run, config=changed, plan=make_plan(changed, run.fingerprints)))
        candidates.append(Candidate(f"{AXES[config.over]} = {number:g}", number, partial(judge_policy, runs[-1])))
    return candidates, runs


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


def judge_policy(run: Run) -> Evaluation:
    """Evaluate the one selected policy as `eval` does, without divergence."""
    ready_policies(run, run.plan.selected(run.config.policies))
    *_, judged = judge_contest(run, enter_policies(run))
    track_made(run)
    return read_evaluation(run.store, (judged, Manifest.read(judged)), [])


def enter_all(runs: Sequence[Run]) -> Contest:
    """Return one contest of the whole family, which is only described: the search judges one after the other."""
    contests = [enter_policies(run) for run in runs]
    others = [entrant for contest in contests for entrant in contest.entrants[1:]]
    return replace(contests[0], entrants=(contests[0].baseline, *others))


def print_search(run: Run, contest: Contest, runs: Sequence[Run]) -> None:
    """Print the artifacts and calls of the whole family; a sequence that ends early needs fewer."""
    made = [spec for each in runs for spec in each.plan.made()]
    responses = [entrant.responses for entrant in contest.entrants]
    print_artifacts(run, [run.plan.model, *made, *responses, *list_judgments(run, contest)])
    print_calls(run, contest)
