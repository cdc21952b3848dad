"""`sacpo export`: write policies as plain Hugging Face folders with a model card, or send one to the hub."""

import logging
from pathlib import Path

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.schema import ExportConfig
from sacpo_exp.pipeline import locate, open_run, ready_policies
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.card import trace_policy, write_card
from sacpo_exp.studies.exporting import check_hub_access, choose_targets, push_folder, write_folder

log = logging.getLogger(__name__)


def main() -> None:
    run_command("export", ExportConfig, export)


def export(config: ExportConfig) -> None:
    """Write the policies that `policies` names to a folder each, merging on demand, and push one if `hub` is given.

    Raises:
        ConfigError: a folder holds something else, or the hub refuses the token.
        MissingArtifactError: a policy has not been trained; this command does not train.
    """
    if config.hub and not config.dry_run:
        check_hub_access()
    run = open_run(config)
    targets = choose_targets(run, config)
    if config.dry_run:
        print_plan(run)
        return
    ready_policies(run, {name: run.plan.policies[name] for name in targets})
    for name, folder in targets.items():
        policy = run.plan.policies[name]
        ancestry = trace_policy(run, policy)
        write_folder(Path(locate(run, policy).path), folder, ancestry, write_card(run, ancestry, config))
        if config.hub:
            log.info("pushed   %s", push_folder(folder, config.hub, config.private))
    log.info("next     from_pretrained(%r), or sacpo chat with the same overrides", str(folder))
