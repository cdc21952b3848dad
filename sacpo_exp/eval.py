"""`python -m sacpo_exp.eval`: responses, divergence and verdicts of policies, or of responses made elsewhere."""

import logging

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.evaluation.entrants import enter_policies, enter_responses
from sacpo_exp.evaluation.judging import check_access, judge_contest
from sacpo_exp.evaluation.responding import diverge
from sacpo_exp.evaluation.tracking import track_evaluations
from sacpo_exp.launching.answers import check_engine
from sacpo_exp.launching.devices import check_devices
from sacpo_exp.pipeline import Run, merge, open_run, require_trained
from sacpo_exp.planning import print_evaluation_plan

log = logging.getLogger(__name__)


def main() -> None:
    run_command("eval", EvalConfig, evaluate)


def evaluate(config: EvalConfig) -> None:
    """Evaluate policies that `train` made with the same overrides, merging on demand, or the `responses` given.

    Raises:
        MissingArtifactError: a policy has not been trained; this command trains none.
    """
    if not config.dry_run:
        check_access(config.judge)
        if not config.responses:
            check_engine(config.generation)
    run = open_run(config)
    contest = enter_responses(run, config) if config.responses else enter_policies(run)
    if config.dry_run:
        print_evaluation_plan(run, contest)
        return
    check_devices(config.hardware)
    if not config.responses:
        _require_policies(run)
    judged = judge_contest(run, contest)
    if not config.responses and config.generation.kl_prompts:
        for name, policy in run.plan.selected(config.policies).items():
            if name != "baseline":
                diverge(run, policy)
    if judged:
        track_evaluations(run, judged)
        log.info("next     python -m sacpo_exp.report")


def _require_policies(run: Run) -> None:
    selected = run.plan.selected(run.config.policies)
    require_trained(run, [run.plan.policies["baseline"], *selected.values()])
    if run.plan.merge and "merged" in selected and not run.store.is_available(run.plan.merge.artifact):
        merge(run)  # one that is mirrored is fetched if anybody asks it


if __name__ == "__main__":
    main()
