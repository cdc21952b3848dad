"""`sacpo prepare`: check, count and tokenise the datasets of a plan, which `train` then finds ready."""

import logging
from typing import Any

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.data import DatasetSource
from sacpo_exp.config.models import ModelSource
from sacpo_exp.config.schema import PrepareConfig
from sacpo_exp.config.stages import datasets_of, models_of, others_of
from sacpo_exp.data.preferences import asked_text
from sacpo_exp.data.preparation import PROMPTS, hash_prompt
from sacpo_exp.data.sources import download_dataset
from sacpo_exp.evaluation.responding import evaluation_prompts
from sacpo_exp.pipeline import locate_outside, open_run, prepare
from sacpo_exp.reporting.planning import print_plan, print_totals

log = logging.getLogger(__name__)
QUANTILES = ("min", "50%", "90%", "99%", "max", "mean")


def main() -> None:
    run_command("prepare", PrepareConfig, prepare_all, at_end=print_totals)


def prepare_all(config: PrepareConfig) -> None:
    """Prepare every dataset that a stage of the plan reads, and print its counts; with `weights` download the rest."""
    run = open_run(config)
    if config.dry_run:
        print_plan(run)
        return
    if config.weights:
        for model in (*models_of(config).values(), *others_of(config).values()):
            if model.source == ModelSource.hub and locate_outside(run, model):
                log.info("download %s, commit %s, is in the cache of the hub", model.path, model.revision)
        for dataset in datasets_of(config).values():
            if dataset.source == DatasetSource.hub:
                log.info("download %s is in the cache of the hub: %s", dataset.path, download_dataset(dataset))
    prompts = [prompt.get("messages", prompt["prompt"]) for prompt in evaluation_prompts(run)]
    for stage in {stage.data: stage for stage in run.plan.stages}.values():
        folder, metrics = prepare(run, stage), run.store.manifest(stage.data).metrics
        trained_on = set((folder / PROMPTS).read_text("utf-8").split())
        leaks = [prompt for prompt in prompts if hash_prompt(prompt) in trained_on]
        print(format_dataset(stage.dataset.name, metrics))
        print(f"evaluation prompts (prompts={config.prompts.name}) that it trains on: {len(leaks)} of {len(prompts)}")
        print("".join(f"  {asked_text(prompt)[:100]}\n" for prompt in leaks[:5]), end="")
    log.info("next     sacpo train, with the same overrides")


def format_dataset(name: str, metrics: dict[str, Any]) -> str:
    """Return everything counted, the training and the held-out part side by side."""
    train, heldout = metrics["train"], metrics["heldout"]
    lines = [
        f"{name}, schema {metrics['schema']}, read as {metrics['view']}",
        f"{'':40}{'all':>10}{'train':>10}{'held out':>10}",
    ]
    counts = [(key.replace("_", " "), value, heldout[key]) for key, value in train.items() if isinstance(value, int)]
    for criterion, labels in train["labels"].items():
        held_out = heldout["labels"][criterion]
        counts += [(f"{kind} for {criterion}", labels[kind], held_out[kind]) for kind in ("desirable", "undesirable")]
    # The parts share no prompt, so the numbers of prompts add up too.
    lines += [f"{title:40}{one + other:>10}{one:>10}{other:>10}" for title, one, other in counts]
    for criterion, labels in train["labels"].items():
        weight = labels["undesirable_weight"]
        shown = "none" if weight is None else f"{weight:.3f}"
        lines.append(f"{'KTO weight of undesirable, ' + criterion:40}{'':10}{shown:>10}")
    for part in ("prompt", "completion"):
        quantiles = ", ".join(f"{name} {train[f'{part}_tokens'][name]:.0f}" for name in QUANTILES)
        lines.append(f"tokens per {part}: {quantiles}")
    if categories := train.get("categories"):
        lines.append("harm categories: " + ", ".join(f"{key} {count}" for key, count in categories.items()))
    lines += [f"left out or turned around by {key}: {count} rows" for key, count in metrics["left_out"].items()]
    return "\n".join(lines)
