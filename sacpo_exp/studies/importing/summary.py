"""What an import says at its end: what came of the judgments, and what counting failures as ties would have made."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from sacpo_exp.evaluation.ledger.records import State
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.tables import align, format_estimate, format_number
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.win_rate import count_states, estimate_win_rate
from sacpo_exp.studies.importing.storing import Stored
from sacpo_exp.studies.importing.verdicts import count_as_original

NOTE = (
    "Without verdict: a prompt of which a whole answer order failed. It is in no rate of ours; the paper's code counts "
    "every\nfailed judgment as a tie. `sacpo report max_missing=1` shows rates that are withheld here."
)


def summarise(stored: Sequence[Stored]) -> str:
    """States of the judgments, and the win rates of every match by both ways of counting."""
    states: Counter[str] = Counter()
    reread = 0
    for match in stored:
        for record in match.evaluation.records:
            for criterion in match.evaluation.criteria:
                singles = (record[criterion.name] or {}).get("singles", ())
                states.update(single["state"] for single in singles)
                reread += sum("is_reread" in single for single in singles)
    new = sum(match.is_new for match in stored)
    lines = [
        f"judgments  {', '.join(f'{states[state]} {state}' for state in State)}",
        f"           {reread} recorded as 0 and 0 whose text does give scores, which count",
        f"matches    {new} new, {len(stored) - new} there already",
    ]
    rows = [["policy", "against", "criterion", "prompts", "without verdict", "win rate", "failure = tie", "difference"]]
    rows += [row for match in stored for row in _compare(match)]
    return "\n".join([*lines, "", *align(rows, 3), NOTE])


def _compare(match: Stored) -> Iterator[list[str]]:
    policy, opponent = match.names
    for criterion in match.evaluation.criteria:
        pairs = [pair for pair in match.pairs if pair.criterion == criterion.name]
        theirs = count_as_original(pairs, policy, opponent)
        states = count_states(match.evaluation.records, criterion)
        if not states or policy == opponent:
            continue
        ours = win_rate(match, criterion)
        difference = math.nan if theirs is None else ours.value - theirs
        numbers = [format_estimate(ours), format_number(theirs, ".3f"), format_number(difference, "+.3f")]
        missing = states.total() - states["ok"]
        yield [policy, opponent, criterion.name, str(states.total()), str(missing), *numbers]


def win_rate(match: Stored, criterion: Criterion) -> Estimate:
    """As a report has it, with its defaults."""
    return estimate_win_rate(match.evaluation.records, criterion, SETTINGS.resampling, SETTINGS.max_missing)
