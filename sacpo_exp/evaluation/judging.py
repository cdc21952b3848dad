"""Judge a contest: from responses to stored verdicts, by the kind of the judge."""

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
    """Raise ConfigError for what would stop a judge only after the policies have answered: no key, a bad template."""
    judge = config.judge
    if isinstance(judge, AbsoluteJudge):
        scored_criteria(judge, config)
    if isinstance(judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.judges.client import find_key
        from sacpo_exp.evaluation.judges.costs import require_price
        from sacpo_exp.evaluation.judges.questions import load_template

        load_template(judge.template, evaluated_criteria(config))
        find_key(judge)
        require_price(judge)


def list_judgments(run: Run, contest: Contest) -> list[ArtifactSpec]:
    """Return what judging makes; of an asked judge nothing can be known before it has answered."""
    judge = run.config.judge
    return list(list_by_scores(run, contest, judge)) if isinstance(judge, AbsoluteJudge) else []


def judge_contest(run: Run, contest: Contest) -> list[Path]:
    """Return the verdicts of every match of a contest; none while a judge is still at work."""
    judge = run.config.judge
    if isinstance(judge, AbsoluteJudge):
        return judge_by_scores(run, contest, judge)
    if isinstance(judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import judge_by_asking

        return judge_by_asking(run, contest, judge)
    raise TypeError(f"unknown judge {type(judge).__name__}")


def require_verdicts(contest: Contest, judged: Sequence[Path]) -> None:
    """Raise `JudgeError` where a judge was asked and not one verdict of `judged` can be used."""
    records = (record for folder in judged for record in read_records(folder / VERDICTS))
    names = [*(criterion.name for criterion in contest.criteria), "refusal"]
    entries = (record.get(name) for record in records for name in names)
    states = Counter(entry["state"] for entry in entries if entry and not entry.get("is_same"))
    if states and not states["ok"]:
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        raise JudgeError(f"not one of {states.total()} verdicts can be used ({counts}). All answers are kept.")
