"""Judges that give every response a score of its own: the scorer, and reward models."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.judges import RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import (
    Contest,
    Entrant,
    criteria_with_zero,
    encoder_artifact,
    judge_id,
    judge_key,
    judgments_artifact,
    scored_criteria,
    scorer_artifact,
    scores_artifact,
)
from sacpo_exp.evaluation.entrants import hash_answers, locate_responses
from sacpo_exp.evaluation.judges.verdicts import compare, make_record
from sacpo_exp.evaluation.records import RESPONSES, SCORES, VERDICTS, read_by_prompt, write_records
from sacpo_exp.evaluation.responding import device
from sacpo_exp.pipeline import Run, judge_rows, locate_model, locate_outside
from sacpo_exp.store import ArtifactSpec

if TYPE_CHECKING:
    from sacpo_exp.evaluation.judges.scorer_judge import Encoder

AbsoluteJudge = ScorerJudgeConfig | RewardModelJudgeConfig
Dialogues = list[tuple[str, str]]


def judge_by_scores(run: Run, contest: Contest, judge: AbsoluteJudge) -> list[Path]:
    """Verdicts of every match: the response with the higher score wins."""
    key = judge_id(judge, run.config, run.fingerprints)
    answers = hash_answers(run, contest)
    return [
        _judge_match(run, contest, match, judge, _verdicts_artifact(run, contest, match, judge, key, answers))
        for match in contest.matches(run.config.matches)
    ]


def list_by_scores(run: Run, contest: Contest, judge: AbsoluteJudge) -> Iterator[ArtifactSpec]:
    """What `judge_by_scores` makes, in order."""
    key = judge_id(judge, run.config, run.fingerprints)
    if isinstance(judge, ScorerJudgeConfig):
        yield scorer_artifact(judge, run.config, run.fingerprints)
    for entrant in contest.entrants:
        yield scores_artifact(entrant, judge, key, scored_criteria(judge, run.config))
    for match in contest.matches(run.config.matches):
        yield _verdicts_artifact(run, contest, match, judge, key, answers="")


def _verdicts_artifact(
    run: Run, contest: Contest, match: tuple[Entrant, Entrant], judge: AbsoluteJudge, key: str, answers: str
) -> ArtifactSpec:
    criteria = scored_criteria(judge, run.config)
    parents = tuple(scores_artifact(entrant, judge, key, criteria).id for entrant in match)
    labels = {
        "judge_id": key,
        "judge_key": judge_key(judge, run.config, run.fingerprints),
        "answers": answers,
        "has_zero": criteria_with_zero(judge, run.config),
    }
    return judgments_artifact(contest, match, judge, labels, {}, parents)


def _judge_match(
    run: Run, contest: Contest, match: tuple[Entrant, Entrant], judge: AbsoluteJudge, spec: ArtifactSpec
) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        said = [read_by_prompt(locate_responses(run, entrant) / RESPONSES) for entrant in match]
        scores = [read_by_prompt(score(run, contest, entrant, judge) / SCORES) for entrant in match]
        records = []
        for prompt in contest.prompts:
            ours, theirs = (responses[prompt["prompt_id"]] for responses in said)
            own, other = (by_prompt[prompt["prompt_id"]] for by_prompt in scores)
            # Equal texts are read in other batches, whose padding rounds differently: a tie all the same.
            other = own if ours["response"] == theirs["response"] else other
            names = [criterion.name for criterion in contest.criteria]
            verdicts = {name: compare(own[name], other[name]) if name in own else None for name in names}
            records.append(make_record(prompt, ours, theirs) | verdicts)
        write_records(folder / VERDICTS, records)
        return {"n": len(records)}

    return run.store.get_or_build(spec, build)


def score(run: Run, contest: Contest, entrant: Entrant, judge: AbsoluteJudge) -> Path:
    """A score per criterion of the entrant's responses, higher is better; read once, even if many others meet them."""

    def build(folder: Path) -> dict[str, Any]:
        said = read_by_prompt(locate_responses(run, entrant) / RESPONSES)
        dialogues = [(prompt["prompt"], said[prompt["prompt_id"]]["response"]) for prompt in contest.prompts]
        columns = _scorers(run, judge)(dialogues, f"{judge.name}: reads {entrant.labels['policy']}")
        records = [
            {"prompt_id": prompt["prompt_id"]} | {name: column[index] for name, column in columns.items()}
            for index, prompt in enumerate(contest.prompts)
        ]
        write_records(folder / SCORES, records)
        return {"n": len(records)}

    key = judge_id(judge, run.config, run.fingerprints)
    return run.store.get_or_build(scores_artifact(entrant, judge, key, scored_criteria(judge, run.config)), build)


def _scorers(run: Run, judge: AbsoluteJudge) -> Callable[[Dialogues, str], dict[str, list[float]]]:
    """A function from dialogues to scores by criterion."""
    if isinstance(judge, ScorerJudgeConfig):
        from sacpo_exp.evaluation.judges.scorer_judge import Heads

        heads, encode = Heads.load(fit(run, judge)), encoder_of(run, judge)

        def read(dialogues: Dialogues, title: str) -> dict[str, list[float]]:
            states = encode(dialogues, title)
            return {each.name: heads.score(each.name, states).tolist() for each in scored_criteria(judge, run.config)}

        return read
    return lambda dialogues, title: {
        each.name: _read_with(run, judge, each.name, dialogues, f"{title}, {each.name}")
        for each in scored_criteria(judge, run.config)
    }


def _read_with(run: Run, judge: RewardModelJudgeConfig, name: str, dialogues: Dialogues, title: str) -> list[float]:
    from sacpo_exp.evaluation.judges.reward_model import score_responses

    head = judge.heads[name]
    location = locate_outside(run, head.model)
    if location is None:
        raise ConfigError(f"`judge.heads.{name}.model.source` must be hub or path, but is {head.model.source.value}.")
    scores: list[float] = score_responses(judge, head, location, dialogues, title, device(run)).tolist()
    return scores


def fit(run: Run, judge: ScorerJudgeConfig) -> Path:
    """The fitted scorer."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.evaluation.judges.scorer_judge import fit_scorer

        rows, heldout = judge_rows(run.config), judge_rows(run.config, "heldout")
        criteria = scored_criteria(judge, run.config)
        return fit_scorer(judge, criteria, encoder_of(run, judge), rows, heldout, folder)

    return run.store.get_or_build(scorer_artifact(judge, run.config, run.fingerprints), build)


def encoder_of(run: Run, judge: ScorerJudgeConfig) -> "Encoder":
    """A function that turns dialogues into hidden states of the judge's encoder."""
    from sacpo_exp.evaluation.judges.encoding import encode_dialogues

    location = locate_model(run, judge.encoder, encoder_artifact(judge, run.config, run.fingerprints))
    return lambda dialogues, title: encode_dialogues(judge, location, dialogues, title)
