"""The family that is chosen from, in the order of the tests, each with the way to its verdicts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sacpo_exp.config.choosing import ChooseConfig, Over
from sacpo_exp.config.schema import MergeMethod
from sacpo_exp.config.stages import policy_of
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.entrants import enter_policies
from sacpo_exp.evaluation.judging import judge_contest
from sacpo_exp.pipeline import Run, ready_policies, require_trained
from sacpo_exp.plan import make_plan
from sacpo_exp.reporting.collect import collect_groups, read_evaluation
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.reporting.tracking import track_evaluations
from sacpo_exp.store import Manifest, Store

#: What `Candidate.number` is, by what the family is over.
AXES = {Over.merge_ratio: "q", Over.beta: "β", Over.policies: ""}


@dataclass(frozen=True)
class Candidate:
    """A policy that may be chosen.

    Attributes:
        number: its q or β; None where the family has no such order.
        look: its verdicts against the baseline, merged, answered and judged now if need be; None while a judge is still
            at work.
        run: its plan; None for policies that were judged before.
    """

    title: str
    number: float | None
    look: Callable[[], Evaluation | None]
    run: Run | None = None


def list_candidates(run: Run, config: ChooseConfig) -> list[Candidate]:
    """The policies of a plan for every entry of `grid`, in the order of the tests: first what theory says is safest."""
    family = sorted(config.family, reverse=is_safe_end_high(config))
    axis = AXES[config.over]
    return [_make_candidate(run, config, f"{axis} = {number:g}", number) for number in map(float, family)]


def is_safe_end_high(config: ChooseConfig) -> bool:
    """Whether the greatest q, or β, is the safest: the one that theory says keeps the constraints by most.

    q is the weight of the second stage. β holds the last stage to those before it: where the last is for a constraint,
    a small β is safe; where it is not, a great one keeps what the others have learned.
    """
    return (config.last_criterion in config.limits) == (config.over == Over.merge_ratio)


def _make_candidate(run: Run, config: ChooseConfig, title: str, number: float) -> Candidate:
    changed = set_number(config, number)
    own = replace(run, config=changed, plan=make_plan(changed, run.fingerprints))
    return Candidate(title, number, partial(judge_policy, own), own)


def set_number(config: ChooseConfig, number: float) -> ChooseConfig:
    """The configuration that selects the one policy with this q or β; the ends of q need no merge."""
    if config.over == Over.merge_ratio:
        if number in (0, 1) and config.merge == MergeMethod.linear:
            return replace(config, merge_ratio=None, merge_weights=None, policies=[policy_of(int(number))])
        return replace(config, merge_ratio=number, merge_weights=None, policies=["merged"])
    name = config.last_criterion or ""
    return replace(config, beta=number, stages=config.stages | {name: replace(config.stages[name], beta=number)})


def require_all(run: Run, candidates: Sequence[Candidate]) -> None:
    """Raises MissingArtifactError naming every policy that has to be trained first, before anything is judged."""
    plans = [candidate.run.plan for candidate in candidates if candidate.run]
    require_trained(run, list(dict.fromkeys(stage.artifact for plan in plans for stage in plan.stages)))


def judge_policy(run: Run) -> Evaluation | None:
    """What `eval` does for the one policy that is selected, without divergence."""
    ready_policies(run, run.plan.selected(run.config.policies))
    judged = judge_contest(run, enter_policies(run))
    if not judged:
        return None
    track_evaluations(run, judged)
    folder = judged[-1]
    return read_evaluation(run.store, (folder, Manifest.read(folder)), [])


def list_judged(store: Store, config: ChooseConfig) -> list[Candidate]:
    """Policies that `grid` names by id or title, all of one group.

    Raises:
        ConfigError: a name fits no judged policy or several, or they were judged by different judges or on different
            prompts.
        MissingArtifactError: nothing has been judged.
    """
    names = [str(name) for name in config.family]
    group = find_common_group(collect_groups(store, None, None), names, config)
    chosen = [evaluation for name in names for evaluation in _find(group, name)]
    return [Candidate(evaluation.title, None, partial(_take, evaluation)) for evaluation in chosen]


def _take(evaluation: Evaluation) -> Evaluation:
    return evaluation


def find_common_group(groups: list[Group], names: list[str], config: ChooseConfig) -> Group:
    """The newest group that has all of them; where several have, one of this judge and these prompts.

    Raises:
        ConfigError: there is none.
    """
    homes = {name: [group for group in groups if _find(group, name)] for name in names}
    if lost := [name for name in names if not homes[name]]:
        raise ConfigError(
            f"`grid` must name judged policies, but {lost[0]} is none. `sacpo report` lists them; a "
            "title will do as well as an id."
        )
    common = [group for group in groups if all(group in homes[name] for name in names)]
    if not common:
        one, other = next(_list_strangers(homes))
        raise ConfigError(
            "`grid` must name policies that one judge has judged on the same prompts against the same answers, but "
            f"{_place(one, homes)} and {_place(other, homes)} were not."
        )
    wanted = {"judge": config.judge.name, "prompts": config.prompts.name}
    fitting = [group for group in common if wanted.items() <= group.policies[0].labels.items()]
    found = (fitting or common)[-1]
    for name in names:
        if len(namesakes := _find(found, name)) > 1:
            ids = ", ".join(policy.id for policy in namesakes)
            raise ConfigError(f"`grid` must name one policy by each entry, but {name} fits {ids}.")
    return found


def _place(name: str, homes: dict[str, list[Group]]) -> str:
    newest = homes[name][-1]
    return f"{name} ({newest.heading}; {newest.provenance})"


def _list_strangers(homes: dict[str, list[Group]]) -> Iterator[tuple[str, str]]:
    """Pairs of names that share no group; if any two do, the first and the last."""
    names = list(homes)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            if not any(group in homes[other] for group in homes[one]):
                yield one, other
    yield names[0], names[-1]


def _find(group: Group, name: str) -> list[Evaluation]:
    exact: list[Evaluation] = [policy for policy in group.policies if policy.id == name]
    return exact or [policy for policy in group.policies if name in _names(policy)]


def _names(policy: Evaluation) -> set[Any]:
    return {policy.title, policy.labels["policy"]}
