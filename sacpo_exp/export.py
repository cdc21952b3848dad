"""`sacpo export`: policies as plain Hugging Face folders with a model card; or one to the hub."""

import logging
from pathlib import Path

from sacpo_exp.config.exports import ExportConfig
from sacpo_exp.config.loading import run_command
from sacpo_exp.pipeline import locate, open_run, ready_policies
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.exporting.ancestry import find_scores, list_evaluated, trace_policy
from sacpo_exp.studies.exporting.card import write_card
from sacpo_exp.studies.exporting.folder import check_target, write_folder
from sacpo_exp.studies.exporting.hub import check_access, push_folder
from sacpo_exp.studies.exporting.targets import choose_targets

log = logging.getLogger(__name__)


def main() -> None:
    run_command("export", ExportConfig, export)


def export(config: ExportConfig) -> None:
    """Write the policies that `policies` names to a folder each, merging on demand, and push one if `hub` is given.

    Raises:
        ConfigError: a folder holds something else, or the hub lets nobody in.
        MissingArtifactError: a policy has not been trained; this command trains none.
    """
    if config.hub and not config.dry_run:
        check_access()
    run = open_run(config)
    targets = choose_targets(run, config)
    for name, folder in targets.items():
        check_target(folder, run.plan.policies[name].id)
    if config.dry_run:
        print_plan(run)
        return
    ready_policies(run, {name: run.plan.policies[name] for name in targets})
    groups = list_evaluated(run.store)
    for name, folder in targets.items():
        policy = run.plan.policies[name]
        source = Path(locate(run, policy).path)
        ancestry = trace_policy(run, policy)
        write_folder(source, folder, ancestry, write_card(ancestry, find_scores(groups, ancestry.policy), config))
        if config.hub:
            log.info("pushed   %s", push_folder(folder, config.hub, config.private))
    log.info("next     from_pretrained(%r), or sacpo chat with the same overrides", str(folder))


if __name__ == "__main__":
    main()
