"""`sacpo prepare`: check, count and tokenise the datasets of a plan, which `train` then finds ready."""

import logging

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.evaluation.responding import evaluation_prompts
from sacpo_exp.pipeline import open_run, prepare
from sacpo_exp.reporting.datasets import find_leaked, format_dataset
from sacpo_exp.reporting.planning import print_plan, print_totals

log = logging.getLogger(__name__)


def main() -> None:
    run_command("prepare", RunConfig, prepare_all, at_end=print_totals)


def prepare_all(config: RunConfig) -> None:
    """Prepare every dataset that a stage of the plan reads, and print its counts."""
    run = open_run(config)
    if config.dry_run:
        print_plan(run)
        return
    prompts = [prompt["prompt"] for prompt in evaluation_prompts(run)]
    for stage in {stage.data: stage for stage in run.plan.stages}.values():
        folder, metrics = prepare(run, stage), run.store.manifest(stage.data).metrics
        leaks = find_leaked(folder, prompts)
        print(format_dataset(stage.dataset.name, metrics, leaks, len(prompts)))
    log.info("next     sacpo train, with the same overrides")


if __name__ == "__main__":
    main()
