"""Judge a contest: from responses to stored verdicts, by the kind of the judge.

The scorer and reward models, here called absolute judges, give every response a score of its own, and the response with
the higher score wins. Other judges are asked about pairs, in `asking`.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.data import PromptsSource
from sacpo_exp.config.judges import HigherIs, OpenAIJudgeConfig, RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.data.checks import FLAG_FIELDS, ID_FIELDS
from sacpo_exp.data.demo.contrasts import generate_judge_rows
from sacpo_exp.data.preferences import Key
from sacpo_exp.data.prompts import asked_of
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.contests import Contest, Entrant, hash_answers, judgments_artifact, locate_responses
from sacpo_exp.evaluation.records import (
    RESPONSES,
    SCORES,
    VERDICTS,
    compare,
    make_record,
    read_by_prompt,
    read_records,
    write_records,
)
from sacpo_exp.evaluation.responding import device
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run, locate_model, locate_outside
from sacpo_exp.plan import Fingerprints, model_artifact, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash

if TYPE_CHECKING:
    from sacpo_exp.evaluation.judges.scorer import Encoder

log = logging.getLogger(__name__)

AbsoluteJudge = ScorerJudgeConfig | RewardModelJudgeConfig


def check_access(config: RunConfig) -> None:
    """Raise ConfigError for what would stop a judge only after the policies have answered: no key, a bad template."""
    judge = config.judge
    if isinstance(judge, ScorerJudgeConfig) and config.prompts.source != PromptsSource.demo:
        log.warning("judge=scorer is fitted on the demo's rows: of prompts=%s it knows little", config.prompts.name)
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
    made = [scores_artifact(entrant, judge, run.config, run.fingerprints) for entrant in contest.entrants]
    if isinstance(judge, ScorerJudgeConfig):
        made = [scorer_artifact(judge, run.config, run.fingerprints), *made]
    return made + [_verdicts_artifact(run, contest, match, judge, "") for match in contest.matches(run.config.matches)]


def judge_contest(run: Run, contest: Contest) -> list[Path]:
    """Return the verdicts of every match of a contest; none without a judge."""
    judge = run.config.judge
    if isinstance(judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import judge_by_asking

        return judge_by_asking(run, contest, judge)
    if not isinstance(judge, AbsoluteJudge):  # judge=none
        return []
    answers, verdicts = hash_answers(run, contest), []
    for match in contest.matches(run.config.matches):
        spec = _verdicts_artifact(run, contest, match, judge, answers)
        verdicts.append(run.store.get_or_build(spec, partial(_compare_scores, run, contest, match, judge)))
    return verdicts


def require_verdicts(contest: Contest, judged: Sequence[Path]) -> None:
    """Raise `JudgeError` where a judge was asked and not one verdict of `judged` can be used."""
    records = (record for folder in judged for record in read_records(folder / VERDICTS))
    names = [*(criterion.name for criterion in contest.criteria), "refusal"]
    entries = (record.get(name) for record in records for name in names)
    states = Counter(entry["state"] for entry in entries if entry and not entry.get("is_same"))
    if states and not states["ok"]:
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        raise JudgeError(f"not one of {states.total()} verdicts can be used ({counts}). All answers are kept.")


def scored_criteria(judge: AbsoluteJudge, config: RunConfig) -> list[Criterion]:
    """Return the evaluated criteria that the judge has a head for, or labels in its own rows.

    Raises:
        ConfigError: there are none.
    """
    criteria = evaluated_criteria(config)
    if isinstance(judge, RewardModelJudgeConfig):
        scored, what = [each for each in criteria if each.name in judge.heads], "a head in `judge.heads`"
    else:
        what = "labels in the scorer's own rows"
        scored = [
            each if (each.acceptable or "").format(i=0) in FLAG_FIELDS else replace(each, acceptable=None)
            for each in criteria
            if each.preferred in ID_FIELDS
        ]
    if not scored:
        names = ", ".join(criterion.name for criterion in criteria)
        raise ConfigError(f"judge={judge.name} can't score any of `evaluated` ({names}): none has {what}.")
    return scored


def criteria_with_zero(judge: AbsoluteJudge, config: RunConfig) -> list[str]:
    """Return the names of criteria whose score of 0 separates acceptable responses from others.

    These are costs, and the scorer's heads of criteria with labels of single responses.
    """
    scored = scored_criteria(judge, config)
    if isinstance(judge, RewardModelJudgeConfig):
        return [each.name for each in scored if judge.heads[each.name].higher_is == HigherIs.worse]
    return [each.name for each in scored if each.acceptable is not None]


def _encoder_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the scorer's encoder, an untrained model in float32 whatever the dtype of the policies."""
    return model_artifact(judge.encoder, config.seed, "float32", fingerprints)


def scorer_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the artifact of the fitted heads."""
    encoder = _encoder_artifact(judge, config, fingerprints)
    settings = {name: getattr(judge, name) for name in ("layer", "max_length", "regularization")}
    labels = {each.name: [each.preferred, each.acceptable] for each in scored_criteria(judge, config)}
    recipe = settings | {"data": fingerprints.judge, "criteria": labels, "features": "response, response x prompt"}
    return ArtifactSpec("scorer", f"scorer.{judge.encoder.name}", recipe, (encoder.id,), {"judge": "scorer"})


def judge_id(judge: AbsoluteJudge, config: RunConfig, fingerprints: Fingerprints) -> str:
    """Return the judge's id."""
    if isinstance(judge, ScorerJudgeConfig):
        return scorer_artifact(judge, config, fingerprints).id
    identity: dict[str, Any] = {"dtype": judge.dtype.value, "max_length": judge.max_length}
    for name, head in judge.heads.items():
        model = model_artifact(head.model, config.seed, "", fingerprints).recipe
        identity[name] = {"model": model, "form": head.form.value, "higher_is": head.higher_is.value}
    return f"{judge.name}-{content_hash(identity)[:10]}"


def judge_key(judge: AbsoluteJudge, config: RunConfig, fingerprints: Fingerprints) -> str:
    """Return the judge's id without the seed of the scorer's encoder."""
    if not isinstance(judge, ScorerJudgeConfig):
        return judge_id(judge, config, fingerprints)
    encoder = policy_of_spec(_encoder_artifact(judge, config, fingerprints)).hash_without("seed")
    return content_hash([scorer_artifact(judge, config, fingerprints).recipe, encoder])


def scores_artifact(
    entrant: Entrant, judge: AbsoluteJudge, config: RunConfig, fingerprints: Fingerprints
) -> ArtifactSpec:
    """Return the artifact of the judge's scores of an entrant's responses."""
    recipe = {"criteria": [criterion.name for criterion in scored_criteria(judge, config)]}
    parents = (entrant.responses.id, judge_id(judge, config, fingerprints))
    return ArtifactSpec("scores", f"{entrant.responses.slug}.{judge.name}", recipe, parents, entrant.labels)


def _verdicts_artifact(
    run: Run, contest: Contest, match: tuple[Entrant, Entrant], judge: AbsoluteJudge, answers: str
) -> ArtifactSpec:
    labels: dict[str, Any] = {
        "judge_id": judge_id(judge, run.config, run.fingerprints),
        "judge_key": judge_key(judge, run.config, run.fingerprints),
        "answers": answers,
        "has_zero": criteria_with_zero(judge, run.config),
    }
    if isinstance(judge, RewardModelJudgeConfig):
        kinds = {HigherIs.better: "reward", HigherIs.worse: "cost"}
        scored = scored_criteria(judge, run.config)
        labels["measures"] = {each.name: kinds[judge.heads[each.name].higher_is] for each in scored}
    parents = tuple(scores_artifact(entrant, judge, run.config, run.fingerprints).id for entrant in match)
    return judgments_artifact(contest, match, judge, labels, {}, parents)


def _compare_scores(
    run: Run, contest: Contest, match: tuple[Entrant, Entrant], judge: AbsoluteJudge, folder: Path
) -> dict[str, Any]:
    """Write the verdicts of a match: the response with the higher score wins."""
    responses = [read_by_prompt(locate_responses(run, entrant) / RESPONSES) for entrant in match]
    scores = [read_by_prompt(_score(run, contest, entrant, judge) / SCORES) for entrant in match]
    names = [criterion.name for criterion in contest.criteria]
    records = []
    for prompt in contest.prompts:
        ours, theirs = (by_prompt[prompt["prompt_id"]] for by_prompt in responses)
        own, other = (by_prompt[prompt["prompt_id"]] for by_prompt in scores)
        # Equal texts are read in other batches, whose padding rounds differently: a tie all the same.
        other = own if ours["response"] == theirs["response"] else other
        verdicts = {name: compare(own[name], other[name]) if name in own else None for name in names}
        records.append(make_record(prompt, ours, theirs) | verdicts)
    write_records(folder / VERDICTS, records)
    return {"n": len(records)}


def _score(run: Run, contest: Contest, entrant: Entrant, judge: AbsoluteJudge) -> Path:
    """Return the stored scores of an entrant's responses per criterion, higher is better; each is scored once."""

    def build(folder: Path) -> dict[str, Any]:
        responses = read_by_prompt(locate_responses(run, entrant) / RESPONSES)
        dialogues = [(asked_of(prompt), responses[prompt["prompt_id"]]["response"]) for prompt in contest.prompts]
        columns = score_dialogues(run, judge, dialogues, f"{judge.name}: reads {entrant.labels['policy']}")
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        ids = [{"prompt_id": prompt["prompt_id"]} for prompt in contest.prompts]
        write_records(folder / SCORES, [each | row for each, row in zip(ids, rows, strict=True)])
        return {"n": len(rows)}

    return run.store.get_or_build(scores_artifact(entrant, judge, run.config, run.fingerprints), build)


def score_dialogues(
    run: Run, judge: AbsoluteJudge, dialogues: list[tuple[str | Key, str]], title: str
) -> dict[str, list[float]]:
    """Return a score per (prompt, response) pair for each scored criterion, the higher the better."""
    names = [criterion.name for criterion in scored_criteria(judge, run.config)]
    if isinstance(judge, ScorerJudgeConfig):
        from sacpo_exp.evaluation.judges.scorer import Heads

        heads, states = Heads.load(fit(run, judge)), _encoder_of(run, judge)(dialogues, title)
        return {name: heads.score(name, states).tolist() for name in names}
    from sacpo_exp.evaluation.judges.reward_model import score_responses

    columns = {}
    for name in names:
        head = judge.heads[name]
        location = locate_outside(run, head.model)
        if location is None:
            source = head.model.source.value
            raise ConfigError(f"`judge.heads.{name}.model.source` must be hub or path, but is {source}.")
        columns[name] = score_responses(judge, head, location, dialogues, f"{title}, {name}", device(run)).tolist()
    return columns


def fit(run: Run, judge: ScorerJudgeConfig) -> Path:
    """Return the folder of the fitted scorer."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.evaluation.judges.scorer import fit_scorer

        rows, heldout = (generate_judge_rows(part, run.config.dataset.seed) for part in ("judge", "heldout"))
        criteria = scored_criteria(judge, run.config)
        return fit_scorer(judge, criteria, _encoder_of(run, judge), rows, heldout, folder)

    return run.store.get_or_build(scorer_artifact(judge, run.config, run.fingerprints), build)


def _encoder_of(run: Run, judge: ScorerJudgeConfig) -> "Encoder":
    from sacpo_exp.evaluation.judges.scorer import encode_dialogues

    location = locate_model(run, judge.encoder, _encoder_artifact(judge, run.config, run.fingerprints))
    return partial(encode_dialogues, judge, location)
