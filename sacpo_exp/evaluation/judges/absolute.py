"""Judges that give each response a score of its own: their ids, the criteria they score, and how they are run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.judges import HigherIs, RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.data.checks import FLAG_FIELDS, ID_FIELDS
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import Entrant
from sacpo_exp.evaluation.responding import device
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run, judge_rows, locate_model, locate_outside
from sacpo_exp.plan import Fingerprints, model_artifact, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash

if TYPE_CHECKING:
    from sacpo_exp.evaluation.judges.scorer import Encoder

AbsoluteJudge = ScorerJudgeConfig | RewardModelJudgeConfig


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


def encoder_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the scorer's encoder, an untrained model in float32 whatever the dtype of the policies."""
    return model_artifact(judge.encoder, config.seed, "float32", fingerprints)


def scorer_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the artifact of the fitted heads."""
    encoder = encoder_artifact(judge, config, fingerprints)
    settings = {name: getattr(judge, name) for name in ("layer", "max_length", "regularization")}
    labels = {each.name: [each.preferred, each.acceptable] for each in scored_criteria(judge, config)}
    recipe = settings | {"data": fingerprints.judge, "criteria": labels}
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
    encoder = policy_of_spec(encoder_artifact(judge, config, fingerprints)).hash_without("seed")
    return content_hash([scorer_artifact(judge, config, fingerprints).recipe, encoder])


def scores_artifact(
    entrant: Entrant, judge: AbsoluteJudge, judge_id: str, criteria: Sequence[Criterion]
) -> ArtifactSpec:
    """Return the artifact of the judge's scores of an entrant's responses."""
    recipe = {"criteria": [criterion.name for criterion in criteria]}
    parents = (entrant.responses.id, judge_id)
    return ArtifactSpec("scores", f"{entrant.responses.slug}.{judge.name}", recipe, parents, entrant.labels)


def score_dialogues(
    run: Run, judge: AbsoluteJudge, dialogues: list[tuple[str, str]], title: str
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

        rows, heldout = judge_rows(run.config), judge_rows(run.config, "heldout")
        criteria = scored_criteria(judge, run.config)
        return fit_scorer(judge, criteria, _encoder_of(run, judge), rows, heldout, folder)

    return run.store.get_or_build(scorer_artifact(judge, run.config, run.fingerprints), build)


def _encoder_of(run: Run, judge: ScorerJudgeConfig) -> "Encoder":
    from sacpo_exp.evaluation.judges.scorer import encode_dialogues

    location = locate_model(run, judge.encoder, encoder_artifact(judge, run.config, run.fingerprints))
    return partial(encode_dialogues, judge, location)
