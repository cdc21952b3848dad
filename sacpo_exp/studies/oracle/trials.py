"""The runs of `train` that the oracle needs, with data drawn from the world."""

import json
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.loading import compose_groups, set_values
from sacpo_exp.config.oracle import ON_LABELS, OracleConfig, list_overrides
from sacpo_exp.config.schema import MergeMethod, RunConfig
from sacpo_exp.config.validation import find_run_problems
from sacpo_exp.data.preferences import Row
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.losses import LOSSES, Loss, View
from sacpo_exp.studies.oracle.sampling import draw_pairs, label_rows, pair_rows, rows_of_both, sample_rows
from sacpo_exp.studies.oracle.world import World, stages_of

#: Rows held out, on which a stage is measured.
HELDOUT = 48


@dataclass(frozen=True)
class Trial:
    """A base stage, a stage with `pairs` rows for each criterion of `order`, and with a `ratio` the merge of two.

    Attributes:
        loss: as in `losses`; of another method its name in `methods`.
    """

    loss: str
    order: tuple[str, ...]
    pairs: int
    multipliers: tuple[float, ...]  # λ of each constraint, in the world's order
    ratio: float | None = None
    is_method: bool = False

    @property
    def row(self) -> Loss:
        """The row of `LOSSES`; only of losses."""
        return LOSSES[self.loss.removesuffix(ON_LABELS)]

    @property
    def title(self) -> str:
        """Of a loss, with the rows that it reads if they are not its own."""
        if self.is_method:
            return self.loss
        return self.row.title + (" on labels" if self.loss.endswith(ON_LABELS) else "")


def list_trials(config: OracleConfig) -> list[Trial]:
    """Return all trials; those that others build on come first."""
    most, usual = max(config.pairs), tuple(config.multiplier)
    kinds = [(loss, tuple(order)) for loss in config.losses for order in config.orders]
    trials = [Trial(*kind, pairs, usual) for kind in kinds for pairs in config.pairs]
    swept = [(config.losses[0], tuple(order)) for order in config.orders]
    trials += [Trial(*kind, most, usual, ratio) for kind in swept for ratio in config.ratios]
    trials += [Trial(name, tuple(config.criteria), most, usual, is_method=True) for name in config.methods]
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

    def of_both(self, count: int, part: str) -> Path:
        """Return a file of pairs that are labelled for both criteria."""
        return self._write(f"both.{count}.{part}", rows_of_both(self.world, count, self._seed, part))

    def preferences(self, trial: Trial, criterion: str, count: int, part: str) -> Path:
        """Return a file of pairs or labelled responses, as the loss of a trial reads."""
        view = View.labels if trial.loss.endswith(ON_LABELS) else trial.row.view
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
    own = ["criterion=[]", f"losses=[{trial.row.name}]"] if not trial.is_method else [f"experiment=design/{trial.loss}"]
    composed = compose_groups((*shared, *own, "base=sft", "dataset=local"))
    if trial.is_method:  # its stages read other rows than supervised fine-tuning
        names = [name for name, stage in composed.stages.items() if stage.criterion is not None]
        own += [f"dataset@stages.{name}.dataset=local" for name in names]
        composed = compose_groups((*shared, *own, "base=sft", "dataset=local"))
    samples = [data.samples(count, part) for count, part in ((config.samples, "train"), (HELDOUT, "heldout"))]
    # The labels of samples are not read, so any criterion will do.
    values: dict[str, Any] = {"dataset": _dataset(config.criteria[0], samples), "merge_ratio": trial.ratio}
    values |= {"seed": config.seed, "paths.outputs": config.paths.outputs}
    make = _method_stages if trial.is_method else _loss_stages
    values |= make(config, trial, data, composed)
    values |= {f"stages.{name}": settings for name, settings in config.train.get("stages", {}).items()}
    run = replace(set_values(composed, values), tracker=config.tracker)
    for name in (name for name, stage in run.stages.items() if stage.criterion):
        updates = max(1, trial.pairs // (run.stages[name].global_batch_size or 1))
        run.stages[name].num_train_epochs = max(1.0, config.updates / updates)
    outside = find_bound_problems(run, RunConfig)
    if problems := outside + find_run_problems(run, shared):
        raise ConfigError(problems)
    return run


def _loss_stages(config: OracleConfig, trial: Trial, data: Data, composed: Any) -> dict[str, Any]:
    known = {name: entry.criterion.letter for name, entry in composed.criteria.items()}
    letters = choose_letters(config.criteria, known)
    strengths = stages_of(data.world, config.beta, trial.multipliers, trial.order)
    stages: dict[str, Any] = {}
    for name, strength in strengths:
        counts = ((trial.pairs, "train"), (HELDOUT, "heldout"))
        places = [data.preferences(trial, name, count, part) for count, part in counts]
        definition = {"name": name, "letter": letters[name]}
        dataset = {**composed.dataset, **_dataset(name, places)}
        stages[name] = {"criterion": definition, "beta": strength, "dataset": dataset}
    return {"stages": stages, "beta": strengths[-1][1]}


def _method_stages(config: OracleConfig, trial: Trial, data: Data, composed: Any) -> dict[str, Any]:
    """The stages of a design, with β/λ for a stage of the constraint alone and β for all others."""
    places = [data.of_both(count, part) for count, part in ((trial.pairs, "train"), (HELDOUT, "heldout"))]
    constraint, multiplier = config.criteria[1], trial.multipliers[0]
    values: dict[str, Any] = {"evaluated": list(config.criteria)}
    for name, stage in composed.stages.items():
        if stage.criterion is None:
            continue
        is_guide = "pecan" in composed.losses
        values[f"stages.{name}.beta"] = config.beta / (multiplier if name == constraint and not is_guide else 1)
        values[f"stages.{name}.dataset"] = _dataset(None, places)
        values["beta"] = values[f"stages.{name}.beta"]
    if "pecan" in composed.losses:
        values["stages.mixed.loss.multiplier"] = multiplier
    if composed.merge == MergeMethod.naive:
        values["merge_ratio"] = 0.5
    return values


def choose_letters(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a letter for each criterion: the known one, else the first letter of its name, or of all, that is free."""
    letters = dict(known)
    for name in names:
        spare = (letter for letter in f"{name}{string.ascii_letters}".upper() if letter not in letters.values())
        letters[name] = letters.get(name) or next(spare)
    return letters


def _dataset(criterion: str | None, places: list[Path]) -> dict[str, Any]:
    train, heldout = map(str, places)
    return {"path": train, "heldout_path": heldout, "criterion": criterion}
