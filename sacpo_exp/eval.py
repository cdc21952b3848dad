"""`sacpo eval`: responses, divergence and verdicts of policies, or of responses made elsewhere."""

import logging

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.evaluation.contests import enter_policies, enter_responses
from sacpo_exp.evaluation.generation import check_engine
from sacpo_exp.evaluation.judging import check_access, judge_contest, require_verdicts
from sacpo_exp.evaluation.preferences import score_preferences, shares_tokenizer
from sacpo_exp.evaluation.responding import diverge
from sacpo_exp.pipeline import open_run, ready_policies
from sacpo_exp.reporting.planning import print_evaluation_plan, print_totals
from sacpo_exp.reporting.tracking import track_made

log = logging.getLogger(__name__)


def main() -> None:
    run_command("eval", EvalConfig, evaluate, at_end=print_totals)


def evaluate(config: EvalConfig) -> None:
    """Evaluate policies that `train` made with the same overrides, merging on demand, or the `responses` given.

    Raises:
        MissingArtifactError: a policy has not been trained; this command trains none.
    """
    if not config.dry_run:
        check_access(config)
        if not config.responses:
            check_engine(config.generation)
    run = open_run(config)
    contest = enter_responses(run, config) if config.responses else enter_policies(run)
    if config.dry_run:
        print_evaluation_plan(run, contest)
        return
    check_devices(config.hardware)
    if not config.responses:
        baseline = {"baseline": run.plan.policies["baseline"]}
        ready_policies(run, baseline | run.plan.selected(config.policies))
        score_preferences(run, config)
    judged = judge_contest(run, contest)
    if not config.responses and config.generation.kl_prompts:
        for name, policy in run.plan.selected(config.policies).items():
            if name != "baseline" and shares_tokenizer(run, policy):
                diverge(run, policy)
    track_made(run)
    if judged:
        require_verdicts(contest, judged)
        log.info("next     sacpo report")


if __name__ == "__main__":
    main()
