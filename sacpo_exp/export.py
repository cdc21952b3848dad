"""`sacpo export`: write policies as plain Hugging Face folders with a model card."""

import logging
from pathlib import Path

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.schema import ExportConfig
from sacpo_exp.pipeline import locate, open_run, ready_policies
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.card import trace_policy, write_card
from sacpo_exp.studies.exporting import choose_targets, write_folder

log = logging.getLogger(__name__)


def main() -> None:
    run_command("export", ExportConfig, export)


def export(config: ExportConfig) -> None:
    """Write the policies that `policies` names to a folder each, merging on demand.

    Raises:
        ConfigError: a folder holds something else.
        MissingArtifactError: a policy has not been trained; this command does not train.
    """
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
    log.info("next     from_pretrained(%r), or hf upload USER/NAME %s --private", str(folder), folder)
