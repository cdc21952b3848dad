"""Responses of policies to the evaluation prompts, and their divergence from the baseline."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.hardware import Accelerator, attention_of
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import Engine, RunConfig
from sacpo_exp.config.stages import known_criteria
from sacpo_exp.data.preferences import Key
from sacpo_exp.data.prompts import asked_of, check_kinds, foresee_prompts, load_prompts
from sacpo_exp.data.sources import changed_meanwhile
from sacpo_exp.data.tokenising import Tokens
from sacpo_exp.evaluation.records import DIVERGENCE, RESPONSES, write_records
from sacpo_exp.pipeline import Run, locate
from sacpo_exp.plan import LINEAGE, Fingerprints, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash
from sacpo_exp.store.manifest import SCRATCH

#: Responses for which a model is moved onto a GPU and off again; the log-probabilities of 32 of 512 tokens over 32,000
#: words take 2 GB of the host, and moving two float32 models of 7B parameters some seconds.
SWAPPED = 32
#: Responses that share a forward pass: enough for fast products of matrices on a CPU, few enough for its memory.
TOGETHER = 4

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sacpo_exp.evaluation.engine import Response
    from sacpo_exp.evaluation.generation import GenerationJob


def evaluation_prompts(run: Run) -> list[dict[str, Any]]:
    """Return the prompts of the configuration; in a dry run blank ones if their files are not given yet."""
    if run.config.dry_run and (blank := foresee_prompts(run.config.prompts)):
        return blank
    prompts = load_prompts(run.config.prompts, run.config.dataset)
    check_kinds(prompts, known_criteria(run.config).values())
    if content_hash(prompts) != run.fingerprints.prompts:
        raise changed_meanwhile(f"`prompts={run.config.prompts.name}`")
    return prompts


def policy_labels(artifact: ArtifactSpec) -> dict[str, Any]:
    """Return what reports show of a policy of a plan: its lineage and the columns derived from it."""
    policy = policy_of_spec(artifact)
    model = artifact.labels.get("model", policy.base.model)  # for `others` the model they are compared with
    return policy.columns | {"model": model, LINEAGE: policy.to_dict(), "policy_id": artifact.id}


def _decoding_recipe(config: RunConfig, fingerprints: Fingerprints) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "prompts": fingerprints.prompts,
        "max_new_tokens": config.generation.max_new_tokens,
        "stop": list(config.model.stop),
    }
    # Engines round differently, which changes the response where two tokens are nearly as likely.
    engine = config.generation.engine
    return recipe if engine == Engine.hf else recipe | {"engine": engine.value}


def responses_artifact(policy: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the artifact of the policy's greedy responses to the evaluation prompts."""
    recipe = _decoding_recipe(config, fingerprints) | {"dtype": config.generation.dtype.value}
    labels = policy_labels(policy) | {"model": config.model.name}  # also for `others`, in a report on this model
    return ArtifactSpec("responses", f"{policy.slug}.{config.prompts.name}", recipe, (policy.id,), labels)


def divergence_artifact(
    policy: ArtifactSpec, baseline: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints
) -> ArtifactSpec:
    """Return the artifact of the sampled KL(policy ‖ baseline): drawn in `generation.dtype`, measured in float32."""
    recipe = _decoding_recipe(config, fingerprints) | {
        "kl_prompts": config.generation.kl_prompts,
        "kl_samples": config.generation.kl_samples,
        "seed": config.seed,
        "draws": "by response",  # earlier versions drew by batch
    }
    if (dtype := config.generation.dtype) != FloatType.float32:  # earlier versions always drew in float32
        recipe["dtype"] = dtype.value
    labels = policy_labels(policy) | {"baseline_id": baseline.id}
    slug = f"{policy.slug}.{config.prompts.name}"
    return ArtifactSpec("divergence", slug, recipe, (policy.id, baseline.id), labels)


def respond(run: Run, policy: ArtifactSpec) -> Path:
    """Return the folder of the policy's responses to the evaluation prompts; generate them if they are not stored."""
    spec = responses_artifact(policy, run.config, run.fingerprints)

    def build(folder: Path) -> dict[str, Any]:
        prompts = evaluation_prompts(run)
        responses = answer(run, answering_job(run, policy, [asked_of(prompt) for prompt in prompts]), folder, spec)
        records = [
            {"prompt_id": prompt["prompt_id"], "response": response.text, "n_tokens": len(response.tokens)}
            | {"finish_reason": response.finish_reason}
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        write_records(folder / RESPONSES, records)
        cut = sum(record["finish_reason"] == "length" for record in records)
        return {"n": len(records), "cut": cut, "tokens": sum(record["n_tokens"] for record in records)}

    return run.store.get_or_build(spec, build)


def diverge(run: Run, policy: ArtifactSpec) -> Path:
    """Return the folder of the sampled KL(policy ‖ baseline) on the first `generation.kl_prompts` prompts."""
    baseline = run.plan.policies["baseline"]
    spec = divergence_artifact(policy, baseline, run.config, run.fingerprints)

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.evaluation.engine import encode
        from sacpo_exp.training.models import load_policy

        prompts = evaluation_prompts(run)[: run.config.generation.kl_prompts] * run.config.generation.kl_samples
        job = answering_job(run, policy, [asked_of(prompt) for prompt in prompts], run.config.seed)
        sampled = answer(run, job, folder, spec)
        exact = job.in_float32()
        weights, tokenizer = replace(exact, device="cpu").load()
        reference = load_policy(locate(run, baseline), exact.dtype, "cpu", exact.attention)
        tokens = []
        for text, response in zip(job.prompts, sampled, strict=True):
            end = [] if response.end is None else [response.end]
            tokens.append(Tokens(np.array(encode(tokenizer, text)), np.array(response.tokens + end)))
        values = measure_divergence(weights, reference, tokens, job.device)
        pairs = zip(prompts, values, strict=True)
        write_records(folder / DIVERGENCE, [{"prompt_id": prompt["prompt_id"], "kl": kl} for prompt, kl in pairs])
        return {"kl": sum(values) / len(values), "n": len(values)}

    return run.store.get_or_build(spec, build)


def measure_divergence(
    policy: "PreTrainedModel", baseline: "PreTrainedModel", tokens: Sequence[Tokens], device: str = "cpu"
) -> list[float]:
    """Return KL(policy ‖ baseline) in nats of each sampled response.

    At every position of a response drawn from the policy the divergence of the two next-token distributions is
    computed exactly, and summed: the Rao-Blackwellised estimate of Amini, Vieira and Cotterell (2025), unbiased like
    the log ratio of the drawn tokens but with less variance and never negative. Responses count up to their cut.

    Args:
        tokens: prompts, and responses drawn from `policy` at temperature 1.
        device: where the models compute, one after the other for some responses at a time, so that each has it alone.
    """

    def score(_: int, logits: "torch.Tensor") -> "torch.Tensor":
        return logits.float().log_softmax(-1).cpu()

    size = SWAPPED if device != "cpu" else TOGETHER  # there is nothing to swap on a CPU
    values = []
    for start in range(0, len(tokens), size):
        scores = []
        for model in (policy, baseline):
            scores.append(read_completions(model.to(device), tokens[start : start + size], TOGETHER, score))
            model.to("cpu")
        values += [float((p.exp() * (p - q)).sum()) for p, q in zip(*scores, strict=True)]
    return values


def read_completions(
    weights: "PreTrainedModel", tokens: Sequence[Tokens], size: int, read: "Callable[[int, torch.Tensor], Any]"
) -> list[Any]:
    """Return what `read` makes of each completion's index and the logits that predict it, (tokens, vocabulary).

    Pairs of neighbours of similar length, `size` completions in all, share a forward pass, which saves padding. On CPUs
    a prompt that both have is computed once.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from sacpo_exp.training.passes import packed_passes

    sequences = [torch.from_numpy(np.concatenate([each.prompt, each.completion])).long() for each in tokens]
    firsts = sorted(range(0, len(tokens), 2), key=lambda first: sum(map(len, sequences[first : first + 2])))
    results, pairs = [None] * len(tokens), max(1, size // 2)
    can_leave_out = "logits_to_keep" in inspect.signature(weights.forward).parameters
    with torch.inference_mode(), packed_passes(weights):
        for start in range(0, len(firsts), pairs):
            group = firsts[start : start + pairs]
            batch = [*group, *(first + 1 for first in group if first + 1 < len(tokens))]
            # Padding, of any token, is on the right, where no earlier position sees it.
            ids = pad_sequence([sequences[i] for i in batch], batch_first=True).to(weights.device)
            mask = pad_sequence([torch.ones_like(sequences[i]) for i in batch], batch_first=True).to(weights.device)
            # What no completion begins before needs no logits; models of others may not know the argument.
            first = min(len(tokens[i].prompt) for i in batch) - 1 if can_leave_out else 0
            kept = {"logits_to_keep": ids.size(1) - first} if can_leave_out else {}
            logits = weights(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
            for index, states in zip(batch, logits, strict=True):
                predicting = states[len(tokens[index].prompt) - 1 - first : len(sequences[index]) - 1 - first]
                results[index] = read(index, predicting)
    return results


def answering_job(run: Run, policy: ArtifactSpec, prompts: list[str | Key], seed: int | None = None) -> "GenerationJob":
    """Return the job of a policy that answers greedily, as it is judged, or samples with a seed."""
    from sacpo_exp.evaluation.engine import Decoding
    from sacpo_exp.evaluation.generation import GenerationJob
    from sacpo_exp.training.models import find_ends

    location = locate(run, policy)
    generation, hardware, model = run.config.generation, run.config.hardware, run.config.model
    return GenerationJob(
        location=location,
        chat_template=model.chat_template,
        dtype=generation.dtype.value,
        device=device(run),
        attention=attention_of(hardware.attention, is_short=generation.dtype != FloatType.float32),
        decoding=Decoding(
            generation.max_new_tokens, hardware.generation_batch_size, tuple(model.stop), seed, find_ends(location)
        ),
        title=f"{policy_of_spec(policy).name} {'answers' if seed is None else 'samples'}",
        prompts=prompts,
    )


def answer(run: Run, job: "GenerationJob", folder: Path, spec: ArtifactSpec) -> "list[Response]":
    """Return the responses of a job for the artifact `spec`, which is built in `folder`."""
    from sacpo_exp.evaluation.generation import answer_all

    logs = Path(run.config.paths.outputs).resolve() / "logs" / spec.id
    return answer_all(job, run.config.generation, run.config.hardware, (folder / SCRATCH).resolve(), logs)


def device(run: Run) -> str:
    """Return the device of models that run in this process."""
    return "cuda" if run.config.hardware.accelerator == Accelerator.cuda else "cpu"
