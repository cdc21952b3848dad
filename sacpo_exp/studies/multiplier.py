"""Estimate the multiplier of a constraint from sampled responses of the base.

The dual of safe alignment is D(λ) = β·E_x log E_ref exp((r + λ·(g − b))/β): convex, with slope E[g] − b under the
optimum for λ (Huang et al. 2024, arXiv 2405.19544). E_ref is the mean over sampled responses of the base. The values
of a response are implicit: r̂ = β_r·log(π_r/π_ref) of the policy aligned for the reward alone, and ĝ the same of that
for the constraint (Rafailov et al. 2023, equation 5). They are known up to a constant for each prompt: it cancels in
r̂, and ĝ is centred over the base's responses to each prompt, so b is an improvement over the base, in nats.
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.stages import aligned_stages, loss_of
from sacpo_exp.config.studies import MultiplierConfig
from sacpo_exp.data.prompts import asked_of
from sacpo_exp.data.tokenising import Tokens
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.preferences import score_completions
from sacpo_exp.evaluation.responding import answer, answering_job, evaluation_prompts
from sacpo_exp.method.theory import Table, normalise, solve_multiplier, tilt
from sacpo_exp.pipeline import Run, locate, require_trained
from sacpo_exp.plan import Stage
from sacpo_exp.store import ArtifactSpec

if TYPE_CHECKING:
    from sacpo_exp.evaluation.engine import Response
    from sacpo_exp.evaluation.generation import GenerationJob

log = logging.getLogger(__name__)

NAME = "values.json"
Values = dict[str, Table]


@dataclass(frozen=True)
class Multiplier:
    """An estimate of λ*.

    Attributes:
        low, high: of the interval over prompts; infinite where no λ satisfies the threshold in a resample.
        effective: mean over prompts of 1/Σw², the number of responses that the optimum's weights w make count.
        prompts, samples: number of prompts, and of responses to each.
    """

    value: float
    low: float
    high: float
    effective: float
    prompts: int
    samples: int


def sample_values(run: Run, config: MultiplierConfig) -> Values:
    """Return the values of sampled responses of the base by criterion, (prompts, samples); they are stored.

    Raises:
        MissingArtifactError: a policy has not been trained.
    """
    stages = {stage.name: stage for stage in run.plan.stages if stage.config.criterion is not None}
    base = run.plan.policies["baseline"]
    used = [base, *(stage.artifact for stage in stages.values())]
    hint = "Run `sacpo train merge=naive merge_ratio=0.5` with the same other overrides first."
    require_trained(run, used, hint)
    for stage in stages.values():
        if not loss_of(stage.config).is_consistent:
            log.warning("%s is not consistent: the values of %s are distorted", stage.config.loss.name, stage.name)
    recipe: dict[str, Any] = {"prompts": run.fingerprints.prompts, "samples": config.samples, "seed": config.seed}
    recipe |= {"max_new_tokens": config.generation.max_new_tokens, "stop": list(config.model.stop)}
    recipe |= {"engine": config.generation.engine.value}
    parents = tuple(spec.id for spec in used)
    spec = ArtifactSpec("distribution", f"{base.slug}.{config.prompts.name}", recipe, parents, {})

    def build(folder: Path) -> dict[str, Any]:
        prompts = [asked_of(row) for row in evaluation_prompts(run) for _ in range(config.samples)]
        job = answering_job(run, base, prompts, run.config.seed).in_float32()
        responses = answer(run, job, folder, spec)
        columns = _implicit_values(run, list(stages.values()), job, responses)
        tables = {name: np.reshape(column, (-1, config.samples)).tolist() for name, column in columns.items()}
        (folder / NAME).write_text(json.dumps(tables), "utf-8")
        return {"n": len(prompts)}

    folder = run.store.get_or_build(spec, build)
    return {name: np.array(table) for name, table in json.loads((folder / NAME).read_text("utf-8")).items()}


def _implicit_values(
    run: Run, stages: Sequence[Stage], job: "GenerationJob", responses: "Sequence[Response]"
) -> dict[str, list[float]]:
    """Return β·log(policy/base) of each response by stage."""
    from sacpo_exp.evaluation.engine import encode
    from sacpo_exp.training.models import load_policy, load_tokenizer

    tokenizer = load_tokenizer(job.location, job.chat_template)
    prompts = {prompt: np.array(encode(tokenizer, prompt)) for prompt in dict.fromkeys(job.prompts)}
    ends = [[] if response.end is None else [response.end] for response in responses]
    tokens = [
        Tokens(prompts[prompt], np.array(response.tokens + end, dtype=int))
        for prompt, response, end in zip(job.prompts, responses, ends, strict=True)
    ]

    def score(policy: ArtifactSpec) -> Table:
        weights = load_policy(locate(run, policy), job.dtype, job.device, job.attention)
        return np.array(score_completions(weights, tokens, 2 * run.config.hardware.per_device_eval_batch_size))

    base = score(run.plan.policies["baseline"])
    return {stage.name: ((stage.config.beta or 1) * (score(stage.artifact) - base)).tolist() for stage in stages}


def estimate_multiplier(values: Values, config: MultiplierConfig) -> Multiplier:
    """Return λ* with an interval from resampled prompts.

    Raises:
        ConfigError: no λ satisfies the threshold among these responses.
    """
    beta = aligned_stages(config)[config.reward].beta or 1
    reward, constraint = values[config.reward], values[config.constraint]
    constraint = constraint - constraint.mean(axis=-1, keepdims=True)
    reference = normalise(np.zeros_like(reward))
    value = solve_multiplier(reference, reward, constraint, beta, config.threshold)
    chance, n, found = np.random.default_rng(config.seed), len(reward), []
    for _ in range(config.bootstrap_rounds):
        drawn = chance.integers(n, size=n)
        try:
            found.append(solve_multiplier(reference, reward[drawn], constraint[drawn], beta, config.threshold))
        except ConfigError:
            found.append(math.inf)
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    weights = np.exp(tilt(reference, reward + value * constraint, beta))
    effective = float((1 / (weights**2).sum(axis=-1)).mean())
    return Multiplier(value, float(low), float(high), effective, *reward.shape)


def describe(found: Multiplier, config: MultiplierConfig) -> Iterator[str]:
    """Yield λ* with its interval, what it rests on, and the overrides that use it."""
    beta = aligned_stages(config)[config.reward].beta or 1
    interval = f"[{found.low:.3g}, {found.high:.3g}]"
    yield f"λ* = {found.value:.3g} {interval} for E[{config.constraint}] ≥ {config.threshold:g} nats above the base"
    yield (
        f"{config.confidence:.0%} interval over {found.prompts} prompts; of {found.samples} responses of the base to "
        f"each {found.effective:.1f} count at λ*"
    )
    if found.value == 0:
        yield f"the policy for {config.reward} alone satisfies it: no stage for {config.constraint} is needed"
        return
    ends = ", ".join(f"{beta / end:.3g}" if end else "∞" for end in (found.high, found.low))
    yield f"β/λ* = {beta / found.value:.3g} [{ends}] with β = {beta:g}. In either order, use:"
    yield f"merge=linear stages.{config.reward}.beta={beta:g} stages.{config.constraint}.beta={beta / found.value:.3g}"
