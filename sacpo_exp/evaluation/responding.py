"""What policies say: their responses to the evaluation prompts, and how far they went from the baseline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.stages import known_criteria
from sacpo_exp.data.prompts import check_kinds, foresee_prompts, load_prompts
from sacpo_exp.data.sources import changed_meanwhile
from sacpo_exp.evaluation.contests import divergence_artifact, responses_artifact
from sacpo_exp.evaluation.records import DIVERGENCE, RESPONSES, write_records
from sacpo_exp.pipeline import Run, locate
from sacpo_exp.plan import policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash
from sacpo_exp.store.manifest import SCRATCH

if TYPE_CHECKING:
    from sacpo_exp.evaluation.engine import Response
    from sacpo_exp.evaluation.generation_jobs import GenerationJob


def respond(run: Run, policy: ArtifactSpec) -> Path:
    """The policy's responses to the evaluation prompts."""
    spec = responses_artifact(policy, run.config, run.fingerprints)

    def build(folder: Path) -> dict[str, Any]:
        prompts = evaluation_prompts(run)
        texts = [prompt["prompt"] for prompt in prompts]
        job = answering_job(run, policy, texts)
        responses = _answer(run, job, folder, spec)
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
    """Sampled KL(policy ‖ baseline) on the first `generation.kl_prompts` prompts."""
    baseline = run.plan.policies["baseline"]
    spec = divergence_artifact(policy, baseline, run.config, run.fingerprints)

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.evaluation.divergence import measure_divergence
        from sacpo_exp.evaluation.engine import encode
        from sacpo_exp.training.models import load_policy, load_tokenizer

        prompts = evaluation_prompts(run)[: run.config.generation.kl_prompts] * run.config.generation.kl_samples
        texts = [prompt["prompt"] for prompt in prompts]
        job = _job(run, policy, "float32", texts, "samples", run.config.seed)
        sampled = _answer(run, job, folder, spec)
        tokenizer = load_tokenizer(job.location, job.chat_template)
        weights, reference = (
            load_policy(location, job.dtype, job.device, job.attention)
            for location in (job.location, locate(run, baseline))
        )
        encoded = [encode(tokenizer, text) for text in texts]
        values = measure_divergence(weights, reference, encoded, sampled, tokenizer.eos_token_id)
        pairs = zip(prompts, values, strict=True)
        write_records(folder / DIVERGENCE, [{"prompt_id": prompt["prompt_id"], "kl": kl} for prompt, kl in pairs])
        return {"kl": sum(values) / len(values), "n": len(values)}

    return run.store.get_or_build(spec, build)


def evaluation_prompts(run: Run) -> list[dict[str, Any]]:
    """The prompts of this configuration; in a dry run blank ones for those whose files are not given yet."""
    if run.config.dry_run and (blank := foresee_prompts(run.config.prompts)):
        return blank
    prompts = load_prompts(run.config.prompts, run.config.dataset)
    check_kinds(prompts, known_criteria(run.config).values())
    if content_hash(prompts) != run.fingerprints.prompts:
        raise changed_meanwhile(f"`prompts={run.config.prompts.name}`")
    return prompts


def answering_job(run: Run, policy: ArtifactSpec, prompts: list[str]) -> "GenerationJob":
    """How a policy is asked when it is judged: greedily, in the template and precision of the configuration."""
    return _job(run, policy, run.config.generation.dtype.value, prompts, "answers", None)


def _job(
    run: Run, policy: ArtifactSpec, dtype: str, prompts: list[str], what: str, seed: int | None
) -> "GenerationJob":
    """What the policy is to answer, and how: greedily unless there is a seed."""
    from sacpo_exp.evaluation.engine import Decoding
    from sacpo_exp.evaluation.generation_jobs import GenerationJob

    generation, hardware, model = run.config.generation, run.config.hardware, run.config.model
    return GenerationJob(
        location=locate(run, policy),
        chat_template=model.chat_template,
        dtype=dtype,
        device=device(run),
        attention=hardware.attention.value if hardware.attention else None,
        decoding=Decoding(generation.max_new_tokens, hardware.generation_batch_size, tuple(model.stop), seed),
        title=f"{policy_of_spec(policy).name} {what}",
        prompts=prompts,
    )


def _answer(run: Run, job: "GenerationJob", folder: Path, spec: ArtifactSpec) -> "list[Response]":
    from sacpo_exp.evaluation.generation_group import answer_all

    logs = Path(run.config.paths.outputs).resolve() / "logs" / spec.id
    return answer_all(job, run.config.generation, run.config.hardware, (folder / SCRATCH).resolve(), logs)


def device(run: Run) -> str:
    """Where models are run that no accelerate launches."""
    return "cuda" if run.config.hardware.accelerator == Accelerator.cuda else "cpu"
