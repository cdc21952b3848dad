"""`dry_run=true`: what a command would do, on any machine."""

from collections.abc import Iterator

from sacpo_exp.config.schema import StageConfig
from sacpo_exp.evaluation_plan import divergence_artifact, judgments_artifact, responses_artifact, scorer_artifact
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage
from sacpo_exp.store import ArtifactSpec


def print_plan(run: Run, with_evaluation: bool) -> None:
    """Print every artifact of the plan: whether it is stored, and what making it would take."""
    hardware = run.config.hardware
    devices = f"{hardware.processes} × {hardware.accelerator.value}"
    print(f"plan on hardware={hardware.name}: {devices}, ZeRO {hardware.zero_stage}")
    artifacts = dict.fromkeys(run.plan.training())
    if with_evaluation:
        artifacts |= dict.fromkeys(evaluation_artifacts(run))
    stages = {stage.artifact: stage for stage in run.plan.stages}
    for spec in artifacts:
        state = "stored" if run.store.has(spec) else "to make"
        print(f"  {state:<8}{spec.kind:<11}{spec.id}")
        if spec in stages:
            print(f"          {describe_stage(run, stages[spec])}")
    missing = sum(not run.store.has(spec) for spec in artifacts)
    print(f"{len(artifacts) - missing} stored, {missing} to make, in {run.store.root}")


def evaluation_artifacts(run: Run) -> Iterator[ArtifactSpec]:
    """What `eval` makes, in order."""
    config, fingerprints, baseline = run.config, run.fingerprints, run.plan.policies["baseline"]
    yield scorer_artifact(config, fingerprints)
    for name, policy in {"baseline": baseline, **run.plan.selected(config.policies)}.items():
        yield responses_artifact(policy, config, fingerprints)
        yield judgments_artifact(name, run.plan, config, fingerprints)
        if name != "baseline" and config.generation.kl_prompts:
            yield divergence_artifact(policy, baseline, config, fingerprints)


def describe_stage(run: Run, stage: Stage) -> str:
    """Data, loss and batch of a stage in one line; the batch as processes × rows per device × passes."""
    hardware, config = run.config.hardware, stage.config
    parts = [f"{stage.name} stage: {config.loss.name.value} on {stage.dataset.name}"]
    if isinstance(config, StageConfig):
        parts.append(f"for {config.criterion.value}, β = {config.beta:g}")
    parts.append(f"lr {config.learning_rate:g}, {config.num_train_epochs:g} epochs")
    batch = f"{hardware.processes} × {stage.per_device} × {stage.accumulation}"
    parts.append(f"global batch {config.global_batch_size} = {batch}")
    return ", ".join(parts)
