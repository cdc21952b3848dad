"""How a judge behaved that was asked: what came of its judgments, and whether it goes by the order of answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.statistics.agreement import PositionBias, measure_positions
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.statistics.win_rate import entries_of, list_singles


@dataclass(frozen=True)
class Conduct:
    """Of the judgments of one policy's matches, or of all (`title` "all policies").

    Attributes:
        states: single judgments by what came of them.
        bias: NaN with n = 0 where nothing was judged.
    """

    title: str
    criterion: Criterion
    states: Counter[str]
    bias: PositionBias


def observe_judge(group: Group, resampling: Resampling) -> list[Conduct]:
    """All policies together first, then each that the judge was asked about; empty for a judge that is not asked."""
    matches = (*group.policies, *group.meetings)
    conducts = []
    for criterion in group.criteria:
        sides = [("all policies", list(matches))]
        for policy in group.policies:
            sides.append((policy.title, [m for m in matches if policy.id in (m.id, m.opponent_id)]))
        found = [_observe(title, side, criterion, resampling) for title, side in sides]
        conducts += [conduct for conduct in found if conduct.states]
    return conducts


def _observe(title: str, matches: Sequence[Evaluation], criterion: Criterion, resampling: Resampling) -> Conduct:
    states: Counter[str] = Counter()
    prompts: list[str] = []
    units: list[str] = []
    columns = []
    for number, match in enumerate(matches):
        for entry in entries_of(match.records, criterion).values():
            states.update(single["state"] for single in entry.get("singles", ()))
        singles = list_singles(match.records, criterion)
        asked = np.flatnonzero(singles.asked & (singles.shown != 0))
        prompts += [singles.prompt[row] for row in asked]
        units += [f"{number} {singles.prompt[row]}" for row in asked]
        columns.append((singles.shown[asked], singles.verdict[asked], singles.repeat[asked]))
    shown, verdict, repeat = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Conduct(title, criterion, states, measure_positions(prompts, units, shown, verdict, repeat, resampling))
