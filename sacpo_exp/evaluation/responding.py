"""What policies say: their responses to the evaluation prompts, and how far they went from the baseline."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.data.prompts import load_prompts
from sacpo_exp.evaluation.records import DIVERGENCE, RESPONSES, write_records
from sacpo_exp.evaluation_plan import divergence_artifact, responses_artifact
from sacpo_exp.pipeline import Run, locate
from sacpo_exp.store import ArtifactSpec

if TYPE_CHECKING:
    from sacpo_exp.generation.engine import Decoding


def respond(run: Run, policy: ArtifactSpec) -> Path:
    """The policy's responses to the evaluation prompts."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.generation.engine import generate_responses
        from sacpo_exp.models.loading import load_policy, load_tokenizer

        location, prompts = locate(run, policy), evaluation_prompts(run)
        tokenizer = load_tokenizer(location, run.config.model.chat_template)
        weights = load_policy(location, run.config.generation.dtype.value, device(run))
        texts = [prompt["prompt"] for prompt in prompts]
        title = f"{policy.labels['policy']} answers"
        responses = generate_responses(weights, tokenizer, texts, decoding(run), folder, title)
        records = [
            {"prompt_id": prompt["prompt_id"], "response": response.text, "n_tokens": len(response.tokens)}
            | {"finish_reason": response.finish_reason}
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        write_records(folder / RESPONSES, records)
        cut = sum(record["finish_reason"] == "length" for record in records)
        return {"n": len(records), "cut": cut, "tokens": sum(record["n_tokens"] for record in records)}

    return run.store.get_or_build(responses_artifact(policy, run.config, run.fingerprints), build)


def diverge(run: Run, policy: ArtifactSpec) -> Path:
    """Sampled KL(policy ‖ baseline) on the first `generation.kl_prompts` prompts."""
    baseline = run.plan.policies["baseline"]

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.generation.divergence import measure_divergence
        from sacpo_exp.generation.engine import encode, generate_responses
        from sacpo_exp.models.loading import load_policy, load_tokenizer

        location = locate(run, policy)
        tokenizer = load_tokenizer(location, run.config.model.chat_template)
        weights = load_policy(location, "float32", device(run))
        prompts = evaluation_prompts(run)[: run.config.generation.kl_prompts] * run.config.generation.kl_samples
        texts = [prompt["prompt"] for prompt in prompts]
        sampling = replace(decoding(run), seed=run.config.seed)
        sampled = generate_responses(weights, tokenizer, texts, sampling, folder, f"{policy.labels['policy']} samples")
        reference = load_policy(locate(run, baseline), "float32", device(run))
        encoded = [encode(tokenizer, text) for text in texts]
        values = measure_divergence(weights, reference, encoded, sampled, tokenizer.eos_token_id)
        pairs = zip(prompts, values, strict=True)
        write_records(folder / DIVERGENCE, [{"prompt_id": prompt["prompt_id"], "kl": kl} for prompt, kl in pairs])
        return {"kl": sum(values) / len(values), "n": len(values)}

    return run.store.get_or_build(divergence_artifact(policy, baseline, run.config, run.fingerprints), build)


def evaluation_prompts(run: Run) -> list[dict[str, Any]]:
    """The prompts of this configuration."""
    return load_prompts(run.config.prompts, run.config.dataset)


def decoding(run: Run) -> "Decoding":
    """Greedy decoding as configured."""
    from sacpo_exp.generation.engine import Decoding

    generation, hardware = run.config.generation, run.config.hardware
    return Decoding(generation.max_new_tokens, hardware.generation_batch_size, tuple(run.config.model.stop))


def device(run: Run) -> str:
    """Where models are run that no accelerate launches."""
    return "cuda" if run.config.hardware.accelerator == Accelerator.cuda else "cpu"
