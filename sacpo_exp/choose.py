"""`sacpo choose threshold=…`: the best policy of a family that is certified to keep its constraints."""

import logging

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.studies import ChooseConfig
from sacpo_exp.evaluation.generation import check_engine
from sacpo_exp.evaluation.judging import check_access
from sacpo_exp.pipeline import open_run, require_trained
from sacpo_exp.reporting.choices import CHOICE, PICTURE, describe_others, read_choice
from sacpo_exp.studies.candidates import enter_all, list_candidates, print_search
from sacpo_exp.studies.choosing import count_others, describe_prospects, search, store_choice

log = logging.getLogger(__name__)


def main() -> None:
    run_command("choose", ChooseConfig, choose)


def choose(config: ChooseConfig) -> None:
    """Print what the prompts can show, test the policies in order, and print and store the answer.

    Raises:
        MissingArtifactError: a policy has not been trained; this command merges, generates and judges only.
        ConfigError, DataError: the policies were not judged for a criterion, or too many verdicts are missing.
    """
    if not config.dry_run:
        check_access(config)
        check_engine(config.generation)
    run = open_run(config)
    candidates, runs = list_candidates(run, config)
    contest = enter_all(runs)
    print("\n".join(describe_prospects(contest, config)), flush=True)
    if config.dry_run:
        titles = ", ".join(candidate.title for candidate in candidates)
        print(f"tests {titles}: {'in this order until the first that fails' if config.is_sequence else 'all of them'}")
        print_search(run, contest, runs)
        return
    check_devices(config.hardware)
    require_trained(run, list(dict.fromkeys(stage.artifact for each in runs for stage in each.plan.stages)))
    folder = store_choice(run.store, search(candidates, config), config)
    print("\n".join([read_choice(folder / CHOICE).sentence, *describe_others(count_others(run.store, folder))]))
    print(f"{folder / CHOICE}\n{folder / PICTURE}.png")
    log.info("next     sacpo report")
