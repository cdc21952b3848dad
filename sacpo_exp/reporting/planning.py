"""`dry_run=true`: what a command would do, on any machine; the job's folder gets the plan as `plan.json`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.prompts import foresee_prompts
from sacpo_exp.evaluation.contests import Contest
from sacpo_exp.evaluation.judges.costs import CostEstimate, add_up, describe_cost, describe_estimate, price_source
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.evaluation.responding import divergence_artifact
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, policy_of_spec, rounds_updates
from sacpo_exp.reporting.estimates import draw_memory_plan, estimate_hours
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.training.models import external_location

PLAN = "plan.json"
#: States of an artifact; `MIRRORED` ones would be downloaded, `OUTSIDE` ones are used where they are.
STORED, MIRRORED, TO_MAKE, OUTSIDE = "stored", "mirror", "to make", "outside"
#: Id → `is_made`, and the `hours` of one GPU if it is to be trained and they are known.
PlannedStages = dict[str, dict[str, Any]]


def print_plan(run: Run) -> None:
    """Print every artifact that `train` makes: its state, what making it takes, and whether that fits."""
    hardware = run.config.hardware
    devices = f"{hardware.processes} × {hardware.accelerator.value}"
    print(f"plan on hardware={hardware.name}: {devices}, ZeRO {hardware.zero_stage}")
    stages = print_artifacts(run, run.plan.training())
    print(*draw_memory_plan(run), sep="\n")
    write_plan(run, stages)


def print_evaluation_plan(run: Run, contest: Contest) -> None:
    """Print what `eval` makes of a contest, what its policies are made of, and what asking a judge costs."""
    judge, prompts = run.config.judge, run.config.prompts
    print(f"plan on hardware={run.config.hardware.name}, judge={judge.name}")
    if blank := foresee_prompts(prompts):
        print(f"  {len(blank)} prompts are assumed: prompts={prompts.name} has no files yet")
    artifacts = [] if contest.baseline.folder else [*_list_ancestors(run, contest), *_list_evaluation(run, contest)]
    stages = print_artifacts(run, [*artifacts, *list_judgments(run, contest)])
    if not isinstance(judge, OpenAIJudgeConfig):
        write_plan(run, stages)
        return
    from sacpo_exp.evaluation.asking import estimate_calls

    calls = estimate_calls(run, contest, judge)
    print(describe_estimate(add_up(calls.values()), judge))
    costs = {key: asdict(cost) for key, cost in calls.items()}
    write_plan(run, stages, judge=judge.model, prices=price_source(judge), calls=costs)


def write_plan(run: Run, stages: PlannedStages, **asking: Any) -> None:
    """Write the plan into the job's folder, if there is one; `asking` is the judge's model, prices and calls."""
    if run.config.paths.run is not None:
        hardware, throughput = run.config.hardware, ""
        if hardware.peak_tflops is not None and hardware.utilisation is not None:
            throughput = f" ({hardware.peak_tflops:g} TFLOPS × {hardware.utilisation:g} per device)"
        plan = {"hardware": f"hardware={hardware.name}{throughput}", "stages": stages} | asking
        (Path(run.config.paths.run) / PLAN).write_text(json.dumps(plan, indent=1), "utf-8")


def print_totals(folders: Sequence[Path]) -> None:
    """Print the sum of all plans in and below the folders; stages and calls that jobs share count once.

    The calls of a single job are left out, since its plan has printed them.
    """
    plans = [json.loads(path.read_text("utf-8")) for folder in folders for path in sorted(folder.rglob(PLAN))]
    stages = {name: stage for plan in plans for name, stage in plan["stages"].items()}
    to_train = [stage["hours"] for stage in stages.values() if not stage["is_made"]]
    if stages:
        alone = sum(len(plan["stages"]) for plan in plans)
        shared = f"; a script that goes path by path would train {alone}" if len(plans) > 1 else ""
        made = len(stages) - len(to_train)
        print(f"in all   {len(stages)} stages, {made} stored, {len(to_train)} to train{shared}")
    if known := [hours for hours in to_train if hours is not None]:
        hardware = ", ".join(dict.fromkeys(plan["hardware"] for plan in plans))
        print(f"         about {sum(known):.1f} GPU hours of training with {hardware}")
    if unknown := to_train.count(None):
        print(f"         how long {unknown} of them take is not known")
    asking = [plan for plan in plans if "judge" in plan] if len(plans) > 1 else []
    for judge, prices in dict.fromkeys((plan["judge"], plan["prices"]) for plan in asking):
        calls = {key: cost for plan in asking if plan["judge"] == judge for key, cost in plan["calls"].items()}
        print(describe_cost(add_up(CostEstimate(**cost) for cost in calls.values()), judge, prices))


def print_artifacts(run: Run, artifacts: Iterator[ArtifactSpec] | Sequence[ArtifactSpec]) -> PlannedStages:
    """Print each artifact once with its state, then the counts; return the stages among them."""
    stages = {stage.artifact: stage for stage in run.plan.stages}
    counts = Counter({STORED: 0, TO_MAKE: 0})
    planned = {}
    for spec in dict.fromkeys(artifacts):
        state = _find_state(run, spec)
        counts[state] += 1
        print(f"  {state:<8}{spec.kind:<11}{spec.id}")
        if spec in stages:
            hours = estimate_hours(run, stages[spec]) if state == TO_MAKE else None
            planned[spec.id] = {"is_made": state != TO_MAKE, "hours": hours}
            duration = "" if hours is None else f", about {hours:.2g} GPU hours"
            print(f"          {describe_stage(run, stages[spec])}{duration}")
    mirrored = f"{counts[MIRRORED]} in {run.config.store.mirror}, " if run.config.store.mirror else ""
    print(f"{counts[STORED]} stored, {mirrored}{counts[TO_MAKE]} to make, in {run.store.root}")
    return planned


def _find_state(run: Run, spec: ArtifactSpec) -> str:
    if spec.kind == "model" and external_location(run.plan.others.get(spec.id, run.config.model)):
        return OUTSIDE
    if run.store.has(spec):
        return STORED
    return MIRRORED if run.store.is_mirrored(spec) else TO_MAKE


def _list_ancestors(run: Run, contest: Contest) -> list[ArtifactSpec]:
    """Return the policies of a contest and all that they are made of, in order of making."""
    made = [*(policy for policy in run.plan.policies.values() if policy.kind == "model"), *run.plan.training()]
    wanted = {run.plan.policies[entrant.name].id for entrant in contest.entrants}
    for spec in reversed(made):
        if spec.id in wanted:
            wanted.update(spec.parents)
    return [spec for spec in made if spec.id in wanted or spec == run.plan.model]


def _list_evaluation(run: Run, contest: Contest) -> Iterator[ArtifactSpec]:
    baseline = run.plan.policies["baseline"]
    for entrant in contest.entrants:
        yield entrant.responses
        if entrant is not contest.baseline and run.config.generation.kl_prompts:
            yield divergence_artifact(run.plan.policies[entrant.name], baseline, run.config, run.fingerprints)


def describe_stage(run: Run, stage: Stage) -> str:
    """Return data, loss and batch of a stage in one line; the batch as processes × rows per device × passes."""
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
