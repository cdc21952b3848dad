"""`python -m sacpo_exp.eval`: responses, divergence and verdicts of the policies that `policies` names."""

import logging

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.evaluation import diverge, judge
from sacpo_exp.launching import check_devices
from sacpo_exp.pipeline import merge, open_run, require_trained
from sacpo_exp.planning import print_plan

log = logging.getLogger(__name__)


def main() -> None:
    run_command("eval", RunConfig, evaluate)


def evaluate(config: RunConfig) -> None:
    """Evaluate policies that `train` made with the same overrides; merge on demand, train never."""
    run = open_run(config)
    if config.dry_run:
        print_plan(run, with_evaluation=True)
        return
    check_devices(config.hardware)
    selected = run.plan.selected(config.policies)
    require_trained(run, [run.plan.policies["baseline"], *selected.values()])
    if "merged" in selected:
        merge(run)
    for name, policy in {"baseline": run.plan.policies["baseline"], **selected}.items():
        judge(run, name)
        if name != "baseline" and config.generation.kl_prompts:
            diverge(run, policy)
    log.info("next     python -m sacpo_exp.report")


if __name__ == "__main__":
    main()
