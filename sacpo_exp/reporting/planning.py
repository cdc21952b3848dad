"""`dry_run=true`: what a command would do, on any machine."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.prompts import foresee_prompts
from sacpo_exp.evaluation.contests import Contest, divergence_artifact
from sacpo_exp.evaluation.judges.costs import add_up, describe_estimate, price_source
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.fitting import draw_memory_plan
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, policy_of_spec, rounds_updates
from sacpo_exp.reporting.estimating import estimate_hours
from sacpo_exp.reporting.totals import JobPlan, PlannedStage, describe_totals, leave_plan, read_plans
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.training.models import external_location

#: What is said of an artifact; `MIRRORED` ones would be downloaded, `OUTSIDE` ones are used where they are.
STORED, MIRRORED, TO_MAKE, OUTSIDE = "stored", "mirror", "to make", "outside"


def print_plan(run: Run) -> None:
    """Print every artifact that `train` makes: whether it is stored, what making it would take, and if that fits."""
    hardware = run.config.hardware
    devices = f"{hardware.processes} × {hardware.accelerator.value}"
    print(f"plan on hardware={hardware.name}: {devices}, ZeRO {hardware.zero_stage}")
    stages = print_artifacts(run, list(dict.fromkeys(run.plan.training())))
    for line in draw_memory_plan(run):
        print(line)
    leave_plan(JobPlan(_say_throughput(hardware), stages), run.config.paths.run)


def print_evaluation_plan(run: Run, contest: Contest) -> None:
    """Print what `eval` makes of a contest, after what its policies are made of, and what asking a judge would cost."""
    is_about_plan = contest.baseline.folder is None
    judge = run.config.judge
    print(f"plan on hardware={run.config.hardware.name}, judge={judge.name}")
    if blank := foresee_prompts(run.config.prompts):
        print(f"  {len(blank)} prompts are foreseen: prompts={run.config.prompts.name} is not given its files yet")
    artifacts = [*_list_ancestors(run, contest), *_list_evaluation(run, contest)] if is_about_plan else []
    artifacts += list_judgments(run, contest)
    stages = print_artifacts(run, list(dict.fromkeys(artifacts)))
    if not isinstance(judge, OpenAIJudgeConfig):
        leave_plan(JobPlan(_say_throughput(run.config.hardware), stages), run.config.paths.run)
        return
    from sacpo_exp.evaluation.asking import estimate_calls

    calls = estimate_calls(run, contest, judge)
    print(describe_estimate(add_up(calls.values()), judge))
    plan = JobPlan(_say_throughput(run.config.hardware), stages, judge.model, price_source(judge), calls)
    leave_plan(plan, run.config.paths.run)


def print_totals(folders: Sequence[Path]) -> None:
    """Print what the plans of these jobs add up to; nothing where they were no dry runs."""
    if plans := read_plans(folders):
        for line in describe_totals(plans):
            print(line)


def print_artifacts(run: Run, artifacts: list[ArtifactSpec]) -> tuple[PlannedStage, ...]:
    """Print each with its state, then the counts; returns the stages among them, as a plan of the job has them."""
    stages = {stage.artifact: stage for stage in run.plan.stages}
    counts = Counter({STORED: 0, TO_MAKE: 0})
    planned = []
    for spec in artifacts:
        state = _find_state(run, spec)
        counts[state] += 1
        print(f"  {state:<8}{spec.kind:<11}{spec.id}")
        if spec in stages:
            hours = estimate_hours(run, stages[spec]) if state == TO_MAKE else None
            planned.append(PlannedStage(spec.id, state != TO_MAKE, hours))
            lasting = "" if hours is None else f", about {hours:.2g} GPU hours"
            print(f"          {describe_stage(run, stages[spec])}{lasting}")
    mirrored = f"{counts[MIRRORED]} in {run.config.store.mirror}, " if run.config.store.mirror else ""
    print(f"{counts[STORED]} stored, {mirrored}{counts[TO_MAKE]} to make, in {run.store.root}")
    return tuple(planned)


def _find_state(run: Run, spec: ArtifactSpec) -> str:
    if spec.kind == "model" and external_location(run.plan.others.get(spec.id, run.config.model)):
        return OUTSIDE
    if run.store.has(spec):
        return STORED
    return MIRRORED if run.store.is_mirrored(spec) else TO_MAKE


def _list_ancestors(run: Run, contest: Contest) -> Iterator[ArtifactSpec]:
    """The policies of a contest and all that they are made of, in order of making."""
    made = [*(policy for policy in run.plan.policies.values() if policy.kind == "model"), *run.plan.training()]
    wanted = {run.plan.policies[entrant.name].id for entrant in contest.entrants}
    for spec in reversed(made):
        if spec.id in wanted:
            wanted.update(spec.parents)
    yield from (spec for spec in made if spec.id in wanted or spec == run.plan.model)


def _list_evaluation(run: Run, contest: Contest) -> Iterator[ArtifactSpec]:
    baseline = run.plan.policies["baseline"]
    for entrant in contest.entrants:
        yield entrant.responses
        if entrant is not contest.baseline and run.config.generation.kl_prompts:
            yield divergence_artifact(run.plan.policies[entrant.name], baseline, run.config, run.fingerprints)


def _say_throughput(hardware: HardwareConfig) -> str:
    if hardware.peak_tflops is None or hardware.utilisation is None:
        return f"hardware={hardware.name}"
    return f"hardware={hardware.name} ({hardware.peak_tflops:g} TFLOPS × {hardware.utilisation:g} per device)"


def describe_stage(run: Run, stage: Stage) -> str:
    """Data, loss and batch of a stage in one line; the batch as processes × rows per device × passes."""
    hardware, config = run.config.hardware, stage.config
    parts = [f"{stage.name} stage: {loss_of(config).title} on {stage.dataset.name}"]
    if config.criterion is not None:
        parts.append(f"β = {config.beta:g}")
        if not policy_of_spec(stage.artifact).stages[-1].is_consistent:
            parts.append("not consistent, so Theorem 1 does not hold for it")
    parts.append(f"lr {config.learning_rate:g}, {config.num_train_epochs:g} epochs")
    batch = f"{hardware.processes} × {stage.per_device} × {stage.accumulation}"
    parts.append(f"global batch {config.global_batch_size} = {batch}")
    if rounds_updates(run.config):
        parts.append("updates rounded to 16 bits: with ZeRO they would not be, and this would be another policy")
    return ", ".join(parts)
