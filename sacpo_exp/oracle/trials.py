"""What the oracle trains: runs of `train`, with data drawn from the world."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.composing import compose_groups, set_values
from sacpo_exp.config.oracle import OracleConfig, Order, list_overrides
from sacpo_exp.config.schema import Criterion, LossName, RunConfig
from sacpo_exp.config.validation import find_run_problems
from sacpo_exp.data.preferences import Row
from sacpo_exp.errors import ConfigError
from sacpo_exp.oracle.sampling import draw_pairs, label_rows, pair_rows, sample_rows
from sacpo_exp.oracle.world import World, stages_of

#: Rows that are measured after a stage, never trained on.
HELDOUT = 48


@dataclass(frozen=True)
class Trial:
    """A base stage, two stages with `pairs` rows each, and with a `ratio` their merge."""

    loss: LossName
    order: Order
    pairs: int
    multiplier: float
    ratio: float | None = None


def list_trials(config: OracleConfig) -> list[Trial]:
    """All trials, those first that others build on."""
    most = max(config.pairs)
    kinds = [(loss, order) for loss in config.losses for order in config.orders]
    trials = [Trial(*kind, pairs, config.multiplier) for kind in kinds for pairs in config.pairs]
    trials += [Trial(*kind, most, config.multiplier, ratio) for kind in kinds for ratio in config.ratios]
    swept = [(config.losses[0], order) for order in config.orders]
    trials += [Trial(*kind, most, multiplier) for kind in swept for multiplier in config.multipliers]
    return list(dict.fromkeys(trials))


class Data:
    """Rows drawn from a world, each file written when it is first asked for."""

    def __init__(self, world: World, seed: int, folder: Path) -> None:
        self.folder = folder
        self._world = world
        self._seed = seed
        self._written: set[Path] = set()

    def samples(self, count: int, part: str) -> Path:
        """What the reference policy says."""
        return self._write(f"samples.{count}.{part}", sample_rows(self._world, count, self._seed, part))

    def preferences(self, loss: LossName, criterion: Criterion, count: int, part: str) -> Path:
        """Pairs for DPO, labelled responses for KTO."""
        form = "pairs" if loss == LossName.dpo else "labels"
        return self._write(f"{form}.{criterion.value}.{count}.{part}", self._draw(loss, criterion, count, part))

    def _draw(self, loss: LossName, criterion: Criterion, count: int, part: str) -> Iterator[Row]:
        if loss == LossName.dpo:
            return pair_rows(self._world, draw_pairs(self._world, criterion, count, self._seed, part))
        return label_rows(self._world, criterion, count, self._seed, part)

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
    """The checked configuration of `train` for a trial.

    Raises:
        ConfigError: an override of `config.train` is wrong.
    """
    shared = list(list_overrides(config.train))
    own = [f"order={trial.order.value}", f"objective={trial.loss.value}", "base=sft", "dataset=local"]
    own += [f"dataset@stages.{name}.dataset=local" for name in ("first", "second")]
    composed = compose_groups((*shared, *own))
    values: dict[str, Any] = {"seed": config.seed, "merge_ratio": trial.ratio, "paths.outputs": config.paths.outputs}
    places = [data.samples(count, part) for count, part in ((config.samples, "train"), (HELDOUT, "heldout"))]
    values |= _dataset_values("dataset", Criterion.helpfulness, places)  # which of the two no one reads
    stages = stages_of(trial.order, config.beta, trial.multiplier)
    # `beta` is the last stage's, wherever `order` puts it.
    values |= {"stages.first.beta": stages[0][1], "beta": stages[1][1]}
    for name, (criterion, _) in zip(("first", "second"), stages, strict=True):
        key = f"stages.{name}"
        counts = ((trial.pairs, "train"), (HELDOUT, "heldout"))
        places = [data.preferences(trial.loss, criterion, count, part) for count, part in counts]
        values |= _dataset_values(f"{key}.dataset", criterion, places)
        batch = composed.stages[name].global_batch_size
        values[f"{key}.num_train_epochs"] = max(1.0, config.updates / max(1, trial.pairs // batch))
    run = replace(set_values(composed, values), tracker=config.tracker)
    outside = find_bound_problems(run, RunConfig)
    if problems := outside + find_run_problems(run, shared):
        raise ConfigError(problems)
    return run


def _dataset_values(key: str, criterion: Criterion, places: list[Path]) -> dict[str, Any]:
    train, heldout = map(str, places)
    return {f"{key}.path": train, f"{key}.heldout_path": heldout, f"{key}.criterion": criterion.value}
