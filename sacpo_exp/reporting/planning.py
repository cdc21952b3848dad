"""`dry_run=true`: what a command would do, and estimates of its GPU hours and memory.

The job's folder gets the plan as `plan.json`. Floating-point operations are counted as 2 per parameter and token
forward and 4 backward (Kaplan et al. 2020, section 2.1), without attention, padding, start-up and checkpoints.
"""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sacpo_exp.cluster.automatic import find_misfit
from sacpo_exp.cluster.disk import GB, MARGIN, checkpoint_bytes, describe_disk, find_grace, policy_bytes
from sacpo_exp.cluster.memory import describe_divergence, describe_plan, find_shape, foresee_length, model_parameters
from sacpo_exp.cluster.status import MULTIRUN
from sacpo_exp.config.data import DataSchema
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.config.models import ModelConfig
from sacpo_exp.config.schema import AUTO, EvalConfig, JudgeKind, RunConfig, StageConfig
from sacpo_exp.config.stages import loss_of
from sacpo_exp.config.validation import check_quantisation
from sacpo_exp.data.forms import CONVERTERS
from sacpo_exp.data.preferences import make_view
from sacpo_exp.data.preparation import COMPLETIONS, count_rows_to_read
from sacpo_exp.data.prompts import foresee_prompts
from sacpo_exp.data.sources import load_parts
from sacpo_exp.data.tokenising import CHARACTERS_PER_TOKEN
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import Contest
from sacpo_exp.evaluation.judges.costs import CostEstimate, add_up, describe_cost, describe_estimate, price_source
from sacpo_exp.evaluation.judging import list_judgments
from sacpo_exp.evaluation.preferences import list_preferences
from sacpo_exp.evaluation.responding import divergence_artifact
from sacpo_exp.method.losses import View
from sacpo_exp.pipeline import Run, is_at_hand
from sacpo_exp.plan import Stage, policy_of_spec, rounds_updates
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.store.manifest import SCRATCH
from sacpo_exp.store.store import PARTIAL, folder_size
from sacpo_exp.training.models import external_location

PLAN: Final = "plan.json"
FORWARD: Final = 2
BACKWARD: Final = 4
#: Schemas of pairs, of which supervised fine-tuning reads the chosen response.
PAIRS: Final = [schema for schema, (form, _) in CONVERTERS.items() if form == DataSchema.pairs]
#: Id → `is_made`, and the `hours` of one GPU if it is to be trained and they are known.
PlannedStages = dict[str, dict[str, Any]]
#: By the folder of a sweep, what its jobs in this process have printed.
_shown: defaultdict[Path, set[str]] = defaultdict(set)
log = logging.getLogger(__name__)


def print_plan(run: Run) -> None:
    """Print every artifact that `train` makes: its state, what making it takes, and whether that fits."""
    hardware = run.config.hardware
    devices = f"{hardware.processes} × {hardware.accelerator.value}"
    print(f"plan on hardware={hardware.name}: {devices}, ZeRO {hardware.zero_stage}")
    stages = print_artifacts(run, run.plan.training())
    if run.plan.stages:
        config, source = plan_lengths(run)
        show(run, describe_plan(config, _list_untrained(run) or [stage.name for stage in run.plan.stages]))
        seconds = find_grace(config)
        text, _ = describe_disk(config, list_weights(run), bool(_list_untrained(run)))
        show(run, f"disk     {text}; to stop takes up to {seconds} s (sbatch --signal=TERM@{seconds + MARGIN})")
        if source:
            show(run, f"lengths  max_length=auto: {config.optimization.max_length} tokens, {source}")
    write_plan(run, stages)


def print_evaluation_plan(run: Run, contest: Contest) -> None:
    """Print what `eval` makes of a contest, what its policies are made of, and what asking a judge costs."""
    judge, prompts = run.config.judge, run.config.prompts
    print(f"plan on hardware={run.config.hardware.name}, judge={judge.name}")
    if blank := foresee_prompts(prompts):
        print(f"  {len(blank)} prompts are assumed: prompts={prompts.name} has no files yet")
    artifacts = [] if contest.baseline.folder else [*_list_ancestors(run, contest), *_list_evaluation(run, contest)]
    stages = print_artifacts(run, [*artifacts, *list_judgments(run, contest)])
    if run.config.generation.kl_prompts and (shape := find_shape(run.config.model)):
        show(run, describe_divergence(run.config, shape))
    write_plan(run, stages, print_calls(run, contest))


def print_calls(run: Run, contest: Contest) -> dict[str, Any]:
    """Print what asking a judge costs; return its model, prices and calls. Empty for a judge that is not asked."""
    judge = run.config.judge
    if not isinstance(judge, OpenAIJudgeConfig):
        return {}
    from sacpo_exp.evaluation.asking import estimate_calls

    calls = estimate_calls(run, contest, judge)
    print(describe_estimate(add_up(calls.values()), judge))
    costs = {key: asdict(cost) for key, cost in calls.items()}
    return {"judge": judge.model, "prices": price_source(judge), "calls": costs}


def write_plan(run: Run, stages: PlannedStages, asking: Mapping[str, Any] | None = None) -> None:
    """Write the plan into the job's folder, if there is one; `asking` is what `print_calls` returns."""
    if run.config.paths.run is not None:
        hardware, throughput = run.config.hardware, ""
        if hardware.peak_tflops is not None and hardware.utilisation is not None:
            throughput = f" ({hardware.peak_tflops:g} TFLOPS × {hardware.utilisation:g} per device)"
        plan = {"hardware": f"hardware={hardware.name}{throughput}", "stages": stages, **(asking or {})}
        plan |= {"weights": list_weights(run), "checkpoint": checkpoint_bytes(run.config)}
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
        print(f"in all   {len(stages)} stages, {len(stages) - len(to_train)} stored, {len(to_train)} to train{shared}")
    if known := [hours for hours in to_train if hours is not None]:
        hardware = ", ".join(dict.fromkeys(plan["hardware"] for plan in plans))
        print(f"         about {sum(known):.1f} GPU hours of training with {hardware}")
    if unknown := to_train.count(None):
        print(f"         how long {unknown} of them take is not known")
    weights = {name: size for plan in plans for name, size in plan["weights"].items()}
    if weights and len(plans) > 1:
        most = max(plan["checkpoint"] for plan in plans) if to_train else 0
        print(f"         {sum(weights.values()) / GB:.1f} GB of disk for {len(weights)} policies")
        print(f"         and {2 * most / GB:.1f} GB for checkpoints of each job that runs at the same time")
    asking = [plan for plan in plans if "judge" in plan] if len(plans) > 1 else []
    for judge, prices in dict.fromkeys((plan["judge"], plan["prices"]) for plan in asking):
        calls = {key: cost for plan in asking if plan["judge"] == judge for key, cost in plan["calls"].items()}
        print(describe_cost(add_up(CostEstimate(**cost) for cost in calls.values()), judge, prices))


def print_artifacts(run: Run, artifacts: Iterable[ArtifactSpec]) -> PlannedStages:
    """Print each artifact once with its state, then the counts; return the stages among them."""
    stages = {stage.artifact: stage for stage in run.plan.stages}
    counts: Counter[str] = Counter()
    planned = {}
    for spec in dict.fromkeys(artifacts):
        state = _find_state(run, spec)
        counts[state] += 1
        line = f"  {state:<8}{spec.kind:<11}{spec.id}"
        if spec in stages:
            hours = estimate_hours(run, stages[spec]) if state == "to make" else None
            planned[spec.id] = {"is_made": state != "to make", "hours": hours}
            duration = "" if hours is None else f", about {hours:.2g} GPU hours"
            line += f"\n          {describe_stage(run, stages[spec])}{duration}"
        show(run, line)
    mirrored = f"{counts['mirror']} in {run.config.store.mirror}, " if run.config.store.mirror else ""
    print(f"{counts['stored']} stored, {mirrored}{counts['to make']} to make, in {run.store.root}")
    return planned


def show(run: Run, text: str) -> None:
    """Print a text, unless an earlier job of the same sweep has printed it."""
    sweep = Path(run.config.paths.run or ".").parent
    if not (sweep / MULTIRUN).is_file():
        print(text)
    elif text not in _shown[sweep]:
        _shown[sweep].add(text)
        print(text)


def _find_state(run: Run, spec: ArtifactSpec) -> str:
    """Return `outside` for a model that is used where it is, `stored`, `mirror` for a download, or `to make`."""
    if spec.kind == "model" and external_location(run.plan.others.get(spec.id, run.config.model)):
        return "outside"
    if run.store.has(spec):
        return "stored"
    return "mirror" if run.store.is_mirrored(spec) else "to make"


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
        if run.config.judge.kind != JudgeKind.none:
            yield entrant.responses
        if entrant is not contest.baseline and run.config.generation.kl_prompts:
            yield divergence_artifact(run.plan.policies[entrant.name], baseline, run.config, run.fingerprints)
    if isinstance(run.config, EvalConfig):
        yield from list_preferences(run, run.config)


def describe_stage(run: Run, stage: Stage) -> str:
    """Return data, loss and batch of a stage in one line; the batch as processes × rows per device × passes."""
    hardware, config = run.config.hardware, stage.config
    parts = [f"{stage.name} stage: {loss_of(config).title} on {stage.dataset.name}"]
    if config.criterion is not None:
        parts.append(f"β = {config.beta:g}")
        if not policy_of_spec(stage.artifact).stages[-1].is_consistent:
            parts.append("not consistent, so Theorem 1 does not hold for it")
    epochs, size = config.num_train_epochs or 1, config.global_batch_size or 1
    parts.append(f"lr {config.learning_rate:g}, {epochs:g} epochs")
    if run.store.has(stage.data):
        rows = count_rows_to_read(run.store.manifest(stage.data).metrics["train"]["examples"], epochs)
        parts[-1] += f" = {math.ceil(max(1, epochs) * (rows // size))} updates"
    batch = f"{hardware.processes} × {stage.per_device} × {stage.accumulation}"
    parts.append(f"global batch {size} = {batch}")
    if rounds_updates(run.config):
        parts.append("updates rounded to 16 bits: with ZeRO they would not be, and this would be another policy")
    return ", ".join(parts)


def estimate_hours(run: Run, stage: Stage) -> float | None:
    """Return the GPU hours of a stage; None if data, model or throughput are not known."""
    hardware, parameters = run.config.hardware, count_active(run.config.model)
    if parameters is None or hardware.peak_tflops is None or hardware.utilisation is None:
        return None
    counted = _count_sequences(run, stage)
    if counted is None:
        return None
    length = run.config.optimization.max_length
    tokens = counted[0] * (counted[1] if length == AUTO else min(counted[1], length))
    operations = count_operations(stage.config, tokens, parameters, hardware.activation_checkpointing)
    return operations / (hardware.peak_tflops * 1e12 * hardware.utilisation) / 3600


def plan_lengths(run: Run) -> tuple[RunConfig, str]:
    """Return the configuration with numbers for lengths of `auto`, from views that are stored, and their source."""
    views = [run.store.manifest(stage.data).metrics for stage in run.plan.stages if run.store.has(stage.data)]
    return foresee_length(run.config, [view["max_length"] for view in views if "max_length" in view])


def count_active(model: ModelConfig) -> int | None:
    """Return the parameters that every token meets: all but an embedding that is only looked up; None if not known."""
    shape = find_shape(model)
    if shape is None or model.parameters is not None:
        return model.parameters
    return model_parameters(model, shape) - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)


def count_operations(stage: StageConfig, tokens: float, parameters: int, is_checkpointed: bool) -> float:
    """Return the floating-point operations of a whole stage that reads so many tokens per epoch.

    The frozen reference reads everything once, beforehand. KTO reads it a second time, with completions of other
    prompts, to estimate its KL, which has no backward pass. Activation checkpointing repeats the forward pass.
    """
    once, in_update = loss_of(stage).extra_forwards
    repeated = FORWARD * (1 + in_update + is_checkpointed) + BACKWARD
    return parameters * tokens * ((stage.num_train_epochs or 0) * repeated + FORWARD * once)


def _count_sequences(run: Run, stage: Stage) -> tuple[float, float] | None:
    """Return how many dialogues a stage reads per epoch (a pair is two), and the mean tokens of one.

    They are counted if the data are prepared or on this machine; else they come from `dataset.size`, or are None.
    """
    dataset, view, sequences = stage.dataset, loss_of(stage.config).view, loss_of(stage.config).sequences
    if run.store.has(stage.data):
        stored = run.store.manifest(stage.data).metrics["train"]
        tokens = stored["prompt_tokens"]["mean"] + stored["completion_tokens"]["mean"]
        return stored["examples"] * sequences, tokens
    if is_at_hand(run, stage):
        rows = make_view(load_parts(dataset)[0]["train"], view, stage.config.criterion, dataset.only_mixed_pairs)
        dialogues = [(*row["prompt"], *row[name]) for row in rows for name in COMPLETIONS if name in row]
        characters = sum(len(message["content"]) for messages in dialogues for message in messages)
        return len(dialogues), characters / len(dialogues) / CHARACTERS_PER_TOKEN
    if dataset.size is None:
        return None
    is_chosen_only = dataset.schema in PAIRS and view == View.responses
    per_row = 1 if is_chosen_only or dataset.schema == DataSchema.unpaired else 2
    known = min(dataset.size.rows, dataset.max_rows or dataset.size.rows)
    return known * per_row, dataset.size.prompt_tokens + dataset.size.completion_tokens


def check_run(run: Run) -> None:
    """Raise ConfigError for what would stop training only after minutes or hours, unless `force` is true.

    That is a missing package, or too little memory or disk for what is still to be made.
    """
    check_quantisation(run.config.adapter)
    names = _list_untrained(run)
    if names and find_shape(run.config.model) is None:
        log.warning("no memory plan: the shape of model=%s is not known", run.config.model.name)
    partials = (run.store.path(stage.artifact) for stage in run.plan.stages)
    held = sum(folder_size(path.with_name(path.name + PARTIAL) / SCRATCH) for path in partials)
    text, has_room = describe_disk(run.config, list_weights(run), bool(names), held)
    lack_of_disk = None if has_room else f"{text}. Try: paths.outputs=DIR, or force=true"
    for sentence in filter(None, (find_misfit(plan_lengths(run)[0], names), lack_of_disk)):
        if not run.config.force:
            raise ConfigError(sentence)
        log.warning("forced   %s", sentence)


def list_weights(run: Run) -> dict[str, int]:
    """Return the bytes of each policy that is still to be made, by id; none if the model's shape is not known."""
    size = policy_bytes(run.config)
    return {spec.id: size for spec in run.plan.made() if size and not run.store.is_available(spec)}


def _list_untrained(run: Run) -> list[str]:
    return [stage.name for stage in run.plan.stages if not run.store.is_available(stage.artifact)]
