"""`sacpo choose threshold=…`: the best policy of a family that is certified to keep its constraints."""

import logging
from pathlib import Path

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.studies import ChooseConfig, Over
from sacpo_exp.evaluation.generation import check_engine
from sacpo_exp.evaluation.judging import check_access
from sacpo_exp.pipeline import open_run, require_trained
from sacpo_exp.reporting.choices import CHOICE, PICTURE, describe_others, read_choice
from sacpo_exp.store import Store
from sacpo_exp.studies.candidates import Candidate, enter_all, list_candidates, list_judged, print_order, print_search
from sacpo_exp.studies.choosing import count_others, describe_prospects, search, store_choice

log = logging.getLogger(__name__)


def main() -> None:
    run_command("choose", ChooseConfig, choose)


def choose(config: ChooseConfig) -> None:
    """Print what the prompts can show, test the policies in order, and print and store the answer.

    Raises:
        MissingArtifactError: a policy has not been trained or judged; this command merges, generates and judges only.
        ConfigError, DataError: the policies can't be compared, or were not judged for a criterion.
    """
    if config.over == Over.policies:
        store = Store(Path(config.paths.outputs) / "store")
        candidates = list_judged(store, config)
        print_order(candidates, config)
        if not config.dry_run:
            decide(store, candidates, config)
        return
    if not config.dry_run:
        check_access(config)
        check_engine(config.generation)
    run = open_run(config)
    candidates = list_candidates(run, config)
    contest = enter_all(candidates)
    print("\n".join(describe_prospects(contest, config)), flush=True)
    if config.dry_run:
        print_search(run, contest, candidates, config)
        return
    check_devices(config.hardware)
    plans = [candidate.run.plan for candidate in candidates if candidate.run]
    require_trained(run, list(dict.fromkeys(stage.artifact for plan in plans for stage in plan.stages)))
    decide(run.store, candidates, config)


def decide(store: Store, candidates: list[Candidate], config: ChooseConfig) -> None:
    """Search, store the answer and print it; no answer while a judge is still at work."""
    findings = search(candidates, config)
    if findings is None:
        log.info("waiting  for the judge; run the same command again later")
        return
    folder = store_choice(store, findings, config)
    print("\n".join([read_choice(folder / CHOICE).sentence, *describe_others(count_others(store, folder))]))
    print(f"{folder / CHOICE}\n{folder / PICTURE}.png")
    log.info("next     sacpo report")
