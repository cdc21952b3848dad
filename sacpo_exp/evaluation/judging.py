"""Judge a contest: from responses to stored verdicts, by the kind of the judge.

The scorer and reward models give every response a score of its own; other judges are asked in `asking`.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sacpo_exp.config.judges import OpenAIJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.contests import (
    RESPONSES,
    SCORES,
    VERDICTS,
    Contest,
    Entrant,
    judgments_artifact,
    read_by_prompt,
    read_records,
    write_records,
)
from sacpo_exp.evaluation.entrants import hash_answers, locate_responses
from sacpo_exp.evaluation.judges.absolute import (
    AbsoluteJudge,
    criteria_with_zero,
    judge_id,
    judge_key,
    score_dialogues,
    scored_criteria,
    scorer_artifact,
    scores_artifact,
)
from sacpo_exp.evaluation.judges.verdicts import compare, make_record
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec

Match = tuple[Entrant, Entrant]


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
    if not isinstance(judge, AbsoluteJudge):
        return []
    made = [_scores_artifact(run, entrant, judge) for entrant in contest.entrants]
    if isinstance(judge, ScorerJudgeConfig):
        made = [scorer_artifact(judge, run.config, run.fingerprints), *made]
    matches = contest.matches(run.config.matches)
    return made + [_verdicts_artifact(run, contest, match, judge, answers="") for match in matches]


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


def judge_by_scores(run: Run, contest: Contest, judge: AbsoluteJudge) -> list[Path]:
    """Return the verdicts of every match: the response with the higher score wins."""
    answers = hash_answers(run, contest)
    return [
        run.store.get_or_build(
            _verdicts_artifact(run, contest, match, judge, answers), partial(_build, run, contest, match, judge)
        )
        for match in contest.matches(run.config.matches)
    ]


def _scores_artifact(run: Run, entrant: Entrant, judge: AbsoluteJudge) -> ArtifactSpec:
    key = judge_id(judge, run.config, run.fingerprints)
    return scores_artifact(entrant, judge, key, scored_criteria(judge, run.config))


def _verdicts_artifact(run: Run, contest: Contest, match: Match, judge: AbsoluteJudge, answers: str) -> ArtifactSpec:
    parents = tuple(_scores_artifact(run, entrant, judge).id for entrant in match)
    labels = {
        "judge_id": judge_id(judge, run.config, run.fingerprints),
        "judge_key": judge_key(judge, run.config, run.fingerprints),
        "answers": answers,
        "has_zero": criteria_with_zero(judge, run.config),
    }
    return judgments_artifact(contest, match, judge, labels, {}, parents)


def _build(run: Run, contest: Contest, match: Match, judge: AbsoluteJudge, folder: Path) -> dict[str, Any]:
    responses = [read_by_prompt(locate_responses(run, entrant) / RESPONSES) for entrant in match]
    scores = [read_by_prompt(score(run, contest, entrant, judge) / SCORES) for entrant in match]
    records = []
    for prompt in contest.prompts:
        ours, theirs = (by_prompt[prompt["prompt_id"]] for by_prompt in responses)
        own, other = (by_prompt[prompt["prompt_id"]] for by_prompt in scores)
        # Equal texts are read in other batches, whose padding rounds differently: a tie all the same.
        other = own if ours["response"] == theirs["response"] else other
        names = [criterion.name for criterion in contest.criteria]
        verdicts = {name: compare(own[name], other[name]) if name in own else None for name in names}
        records.append(make_record(prompt, ours, theirs) | verdicts)
    write_records(folder / VERDICTS, records)
    return {"n": len(records)}


def score(run: Run, contest: Contest, entrant: Entrant, judge: AbsoluteJudge) -> Path:
    """Return the stored scores of an entrant's responses per criterion, higher is better; each is scored once."""

    def build(folder: Path) -> dict[str, Any]:
        responses = read_by_prompt(locate_responses(run, entrant) / RESPONSES)
        dialogues = [(prompt["prompt"], responses[prompt["prompt_id"]]["response"]) for prompt in contest.prompts]
        columns = score_dialogues(run, judge, dialogues, f"{judge.name}: reads {entrant.labels['policy']}")
        records = [
            {"prompt_id": prompt["prompt_id"]} | {name: column[index] for name, column in columns.items()}
            for index, prompt in enumerate(contest.prompts)
        ]
        write_records(folder / SCORES, records)
        return {"n": len(records)}

    return run.store.get_or_build(_scores_artifact(run, entrant, judge), build)
