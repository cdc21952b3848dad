"""The runs of `train` that the oracle needs, with data drawn from the world."""

import json
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.loading import compose_groups, set_values
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.studies import OracleConfig, list_overrides
from sacpo_exp.config.validation import find_run_problems
from sacpo_exp.data.preferences import Row
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.losses import LOSSES, View
from sacpo_exp.studies.oracle.sampling import draw_pairs, label_rows, pair_rows, sample_rows
from sacpo_exp.studies.oracle.world import World, stages_of

#: Rows held out, on which a stage is measured.
HELDOUT = 48


@dataclass(frozen=True)
class Trial:
    """A base stage, a stage with `pairs` rows for each criterion of `order`, and with a `ratio` the merge of two."""

    loss: str
    order: tuple[str, ...]
    pairs: int
    multipliers: tuple[float, ...]  # λ of each constraint, in the world's order
    ratio: float | None = None


def list_trials(config: OracleConfig) -> list[Trial]:
    """Return all trials; those that others build on come first."""
    most, usual = max(config.pairs), tuple(config.multiplier)
    kinds = [(loss, tuple(order)) for loss in config.losses for order in config.orders]
    trials = [Trial(*kind, pairs, usual) for kind in kinds for pairs in config.pairs]
    trials += [Trial(*kind, most, usual, ratio) for kind in kinds for ratio in config.ratios]
    swept = [(config.losses[0], tuple(order)) for order in config.orders]
    trials += [Trial(*kind, most, (first, *usual[1:])) for kind in swept for first in config.multipliers]
    return list(dict.fromkeys(trials))


class Data:
    """Rows drawn from a world; a file is written when it is first needed."""

    def __init__(self, world: World, seed: int, folder: Path) -> None:
        self.folder = folder
        self.world = world
        self._seed = seed
        self._written: set[Path] = set()

    def samples(self, count: int, part: str) -> Path:
        """Return a file of responses sampled from the reference policy."""
        return self._write(f"samples.{count}.{part}", sample_rows(self.world, count, self._seed, part))

    def preferences(self, loss: str, criterion: str, count: int, part: str) -> Path:
        """Return a file of pairs or labelled responses, as the loss reads."""
        view = LOSSES[loss].view
        return self._write(f"{view.value}.{criterion}.{count}.{part}", self._draw(view, criterion, count, part))

    def _draw(self, view: View, criterion: str, count: int, part: str) -> Iterator[Row]:
        if view == View.pairs:
            return pair_rows(self.world, draw_pairs(self.world, criterion, count, self._seed, part))
        return label_rows(self.world, criterion, count, self._seed, part)

    def _write(self, name: str, rows: Iterable[Row]) -> Path:
        path = self.folder / f"{name}.jsonl"
        if path not in self._written:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")  # the same command may run twice at once
            partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
            partial.replace(path)
            self._written.add(path)
        return path


def configure_trial(config: OracleConfig, trial: Trial, data: Data) -> RunConfig:
    """Return the checked configuration of `train` for a trial.

    Raises:
        ConfigError: an override of `config.train` is wrong.
    """
    shared = list(list_overrides({key: value for key, value in config.train.items() if key != "stages"}))
    own = [f"losses=[{trial.loss}]", "criterion=[]", "base=sft", "dataset=local"]
    composed = compose_groups((*shared, *own))
    samples = [data.samples(count, part) for count, part in ((config.samples, "train"), (HELDOUT, "heldout"))]
    # The labels of samples are not read, so any criterion will do.
    values: dict[str, Any] = {"dataset": _dataset(config.criteria[0], samples), "merge_ratio": trial.ratio}
    values |= {"seed": config.seed, "paths.outputs": config.paths.outputs}
    known = {name: entry.criterion.letter for name, entry in composed.criteria.items()}
    letters = choose_letters(config.criteria, known)
    strengths = stages_of(data.world, config.beta, trial.multipliers, trial.order)
    stages: dict[str, Any] = {}
    for name, strength in strengths:
        counts = ((trial.pairs, "train"), (HELDOUT, "heldout"))
        places = [data.preferences(trial.loss, name, count, part) for count, part in counts]
        definition = {"name": name, "letter": letters[name]}
        dataset = {**composed.dataset, **_dataset(name, places)}
        stages[name] = {"criterion": definition, "beta": strength, "dataset": dataset}
    values |= {"stages": stages, "beta": strengths[-1][1]}
    values |= {f"stages.{name}": settings for name, settings in config.train.get("stages", {}).items()}
    run = replace(set_values(composed, values), tracker=config.tracker)
    for name in trial.order:
        updates = max(1, trial.pairs // (run.stages[name].global_batch_size or 1))
        run.stages[name].num_train_epochs = max(1.0, config.updates / updates)
    outside = find_bound_problems(run, RunConfig)
    if problems := outside + find_run_problems(run, shared):
        raise ConfigError(problems)
    return run


def choose_letters(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a letter for each criterion: the known one, else the first letter of its name, or of all, that is free."""
    letters = dict(known)
    for name in names:
        spare = (letter for letter in f"{name}{string.ascii_letters}".upper() if letter not in letters.values())
        letters[name] = letters.get(name) or next(spare)
    return letters


def _dataset(criterion: str, places: list[Path]) -> dict[str, Any]:
    train, heldout = map(str, places)
    return {"path": train, "heldout_path": heldout, "criterion": criterion}
