"""`dry_run=true`: what a command would do, on any machine."""

from collections import Counter
from collections.abc import Iterator

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.schema import StageConfig
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.evaluation_plan import Contest, divergence_artifact
from sacpo_exp.fitting import draw_memory_plan
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, rounds_updates
from sacpo_exp.store import ArtifactSpec

#: What is said of an artifact; `MIRRORED` ones would be downloaded.
STORED, MIRRORED, TO_MAKE = "stored", "mirror", "to make"


def print_plan(run: Run) -> None:
    """Print every artifact that `train` makes: whether it is stored, what making it would take, and if that fits."""
    hardware = run.config.hardware
    devices = f"{hardware.processes} × {hardware.accelerator.value}"
    print(f"plan on hardware={hardware.name}: {devices}, ZeRO {hardware.zero_stage}")
    _print_artifacts(run, list(dict.fromkeys(run.plan.training())))
    for line in draw_memory_plan(run):
        print(line)


def print_evaluation_plan(run: Run, contest: Contest) -> None:
    """Print what `eval` makes of a contest, after what its policies are made of, and what asking a judge would cost."""
    is_about_plan = contest.baseline.folder is None
    print(f"plan on hardware={run.config.hardware.name}, judge={run.config.judge.name}")
    artifacts = [*run.plan.training(), *_list_evaluation(run, contest)] if is_about_plan else []
    artifacts += list_judgments(run, contest)
    _print_artifacts(run, list(dict.fromkeys(artifacts)))
    if isinstance(run.config.judge, OpenAIJudgeConfig):
        from sacpo_exp.evaluation.asking import estimate_calls

        print(estimate_calls(run, contest, run.config.judge))


def _print_artifacts(run: Run, artifacts: list[ArtifactSpec]) -> None:
    stages = {stage.artifact: stage for stage in run.plan.stages}
    counts = Counter({STORED: 0, TO_MAKE: 0})
    for spec in artifacts:
        state = STORED if run.store.has(spec) else MIRRORED if run.store.is_mirrored(spec) else TO_MAKE
        counts[state] += 1
        print(f"  {state:<8}{spec.kind:<11}{spec.id}")
        if spec in stages:
            print(f"          {describe_stage(run, stages[spec])}")
    mirrored = f"{counts[MIRRORED]} in {run.config.store.mirror}, " if run.config.store.mirror else ""
    print(f"{counts[STORED]} stored, {mirrored}{counts[TO_MAKE]} to make, in {run.store.root}")


def _list_evaluation(run: Run, contest: Contest) -> Iterator[ArtifactSpec]:
    baseline = run.plan.policies["baseline"]
    for entrant in contest.entrants:
        yield entrant.responses
        if entrant is not contest.baseline and run.config.generation.kl_prompts:
            yield divergence_artifact(run.plan.policies[entrant.name], baseline, run.config, run.fingerprints)


def describe_stage(run: Run, stage: Stage) -> str:
    """Data, loss and batch of a stage in one line; the batch as processes × rows per device × passes."""
    hardware, config = run.config.hardware, stage.config
    parts = [f"{stage.name} stage: {config.loss.name.value} on {stage.dataset.name}"]
    if isinstance(config, StageConfig):
        parts.append(f"for {config.criterion.value}, β = {config.beta:g}")
    parts.append(f"lr {config.learning_rate:g}, {config.num_train_epochs:g} epochs")
    batch = f"{hardware.processes} × {stage.per_device} × {stage.accumulation}"
    parts.append(f"global batch {config.global_batch_size} = {batch}")
    if rounds_updates(run.config):
        parts.append("updates rounded to 16 bits: with ZeRO they would not be, and this would be another policy")
    return ", ".join(parts)
