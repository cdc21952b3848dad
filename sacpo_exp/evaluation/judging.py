"""Who judges: the road from a contest to stored verdicts, by the kind of the judge."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.absolute import AbsoluteJudge, judge_by_scores, list_by_scores
from sacpo_exp.evaluation.contests import Contest, scored_criteria
from sacpo_exp.evaluation.records import VERDICTS, read_records
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec


def check_access(config: RunConfig) -> None:
    """Raises ConfigError for what would stop a judge only after the policies have answered: no key, a bad template."""
    judge = config.judge
    if isinstance(judge, AbsoluteJudge):
        scored_criteria(judge, config)
    if isinstance(judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.judges.costs import require_price
        from sacpo_exp.evaluation.judges.credentials import find_key
        from sacpo_exp.evaluation.judges.questions import load_template

        load_template(judge.template, evaluated_criteria(config))
        find_key(judge)
        require_price(judge)


def list_judgments(run: Run, contest: Contest) -> list[ArtifactSpec]:
    """What judging makes; of a judge that is asked nothing can be known before it has answered."""
    judge = run.config.judge
    return list(list_by_scores(run, contest, judge)) if isinstance(judge, AbsoluteJudge) else []


def judge_contest(run: Run, contest: Contest) -> list[Path]:
    """Verdicts of every match of a contest; none while a judge is still at work."""
    judge = run.config.judge
    if isinstance(judge, AbsoluteJudge):
        return judge_by_scores(run, contest, judge)
    if isinstance(judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import judge_by_asking

        return judge_by_asking(run, contest, judge)
    raise TypeError(f"no road for {type(judge).__name__}")


def require_verdicts(contest: Contest, judged: Sequence[Path]) -> None:
    """Raise `JudgeError` where a judge was asked and not one verdict of `judged` came of it."""
    records = (record for folder in judged for record in read_records(folder / VERDICTS))
    names = [*(criterion.name for criterion in contest.criteria), "refusal"]
    found = (record.get(name) for record in records for name in names)
    states = Counter(entry["state"] for entry in found if entry and not entry.get("is_same"))
    if states and not states["ok"]:
        said = ", ".join(f"{count} {state}" for state, count in states.most_common())
        raise JudgeError(f"not one of {states.total()} verdicts can be used ({said}). What the judge said is kept.")
