"""The runs of `train` that the oracle needs, with data drawn from the world."""

import json
import os
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.automatic import choose_numbers
from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.hardware import look_at_machine
from sacpo_exp.config.loading import compose_groups, set_values
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.config.studies import OracleConfig, list_overrides, read_losses
from sacpo_exp.config.validation import find_run_problems
from sacpo_exp.data.preferences import Row
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.losses import LOSSES, View
from sacpo_exp.store import content_hash
from sacpo_exp.studies.oracle.world import World, comparison_rows, label_rows, pair_rows, sample_rows, stages_of

#: Rows held out, on which a stage is measured.
HELDOUT = 48


@dataclass(frozen=True)
class Trial:
    """A base stage, and stages with `pairs` rows each; with a `ratio` the merge of two.

    Attributes:
        entry: of `losses`, or of `methods`.
        order: criteria of the stages; empty for a method, which has its own.
        multipliers: λ of each constraint, in the world's order.
    """

    entry: str
    order: tuple[str, ...]
    pairs: int
    multipliers: tuple[float, ...]
    seed: int
    ratio: float | None = None

    @property
    def keys(self) -> dict[str, Any]:
        """Return what tells a row of the results from others; Theorem 1 holds if `is_consistent`."""
        losses, form = read_losses(self.entry) if self.order else ([], None)
        title = "→".join(LOSSES[name].title for name in losses) + " on labels" * (form is not None)
        return {
            "losses": title or self.entry,
            "order": "→".join(self.order) or "method",
            "q": "" if self.ratio is None else f"{self.ratio:g}",
            "λ": "/".join(f"{multiplier:g}" for multiplier in self.multipliers),
            "rows": self.pairs,
            "seed": self.seed,
            "is_consistent": bool(losses) and all(LOSSES[name].is_consistent for name in losses),
        }


def list_trials(config: OracleConfig) -> list[Trial]:
    """Return all trials of all seeds; those that others build on come first."""
    most, usual = max(config.pairs), tuple(config.multiplier)
    trials: list[Trial] = []
    for seed in config.seeds:
        kinds = [(entry, tuple(order)) for entry in config.losses for order in config.orders]
        trials += [Trial(*kind, pairs, usual, seed) for kind in kinds for pairs in config.pairs]
        trials += [Trial(*kind, most, usual, seed, ratio) for kind in kinds for ratio in config.ratios]
        swept = [(entry, tuple(order)) for entry in config.losses[:1] for order in config.orders]
        trials += [Trial(*kind, most, (first, *usual[1:]), seed) for kind in swept for first in config.multipliers]
        trials += [Trial(entry, (), pairs, usual, seed) for entry in config.methods for pairs in config.pairs]
    return list(dict.fromkeys(trials))


def draw_dataset(
    config: OracleConfig, world: World, seed: int, name: str, draw: Callable[..., Iterator[Row]], count: int, *args: Any
) -> dict[str, Any]:
    """Write rows drawn from the world with a seed into files, and return where a dataset finds them."""
    identity = {"world": asdict(config.world), "criteria": config.criteria, "seed": seed}
    folder = Path(config.paths.outputs) / "oracle" / "data" / content_hash(identity)[:10]
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for key, rows, part in (("path", count, "train"), ("heldout_path", HELDOUT, "heldout")):
        path = folder / f"{name}.{rows}.{part}.jsonl"
        partial = path.with_suffix(f".{os.getpid()}")  # the same command may run twice at once
        drawn = draw(world, *args, rows, seed, part)
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in drawn), "utf-8")
        partial.replace(path)
        places[key] = str(path)
    return places


def configure_trial(config: OracleConfig, world: World, trial: Trial) -> RunConfig:
    """Return the checked configuration of `train` for a trial, and write the rows that it reads."""
    shared = list(list_overrides({key: value for key, value in config.train.items() if key != "stages"}))
    name, *own = trial.entry.split()
    if trial.order:
        chosen = [f"losses=[{','.join(read_losses(name)[0])}]", "criterion=[]"]
    else:
        chosen = [f"experiment=design/{name}"]
    composed = compose_groups((*shared, *chosen, "base=sft", "dataset=local", *own)).copy()
    choose_numbers(composed, look_at_machine())
    # The labels of samples are not read, so any criterion will do.
    samples = draw_dataset(config, world, trial.seed, "samples", sample_rows, config.samples)
    values: dict[str, Any] = {"dataset": samples | {"criterion": config.criteria[0]}, "seed": trial.seed}
    values |= {"paths.outputs": config.paths.outputs}
    values |= (_stages_of_losses if trial.order else _stages_of_method)(config, world, trial, composed)
    values |= {f"stages.{name}": settings for name, settings in config.train.get("stages", {}).items()}
    run = replace(set_values(composed, values), tracker=config.tracker)
    for stage in aligned_stages(run).values():
        updates = max(1, trial.pairs // (stage.global_batch_size or 1))
        stage.num_train_epochs = max(1.0, config.updates / updates)
    if problems := find_bound_problems(run, RunConfig) + find_run_problems(run, [*shared, *own]):
        raise ConfigError(problems)
    return run


def _stages_of_losses(config: OracleConfig, world: World, trial: Trial, composed: Any) -> dict[str, Any]:
    """Return one stage for each criterion of the order, with β and rows of its own."""
    letters = choose_letters(
        config.criteria, {name: entry.criterion.letter for name, entry in composed.criteria.items()}
    )
    strengths = stages_of(world, config.beta, trial.multipliers, trial.order)
    losses, form = read_losses(trial.entry)
    stages: dict[str, Any] = {}
    for place, (name, strength) in enumerate(strengths):
        view = form or LOSSES[losses[min(place, len(losses) - 1)]].view
        draw = pair_rows if view == View.pairs else label_rows
        rows = draw_dataset(config, world, trial.seed, f"{view.value}.{name}", draw, trial.pairs, name)
        dataset = {**composed.dataset, **rows, "criterion": name}
        stages[name] = {"criterion": {"name": name, "letter": letters[name]}, "beta": strength, "dataset": dataset}
    return {"stages": stages, "beta": strengths[-1][1], "merge_ratio": trial.ratio}


def _stages_of_method(config: OracleConfig, world: World, trial: Trial, composed: Any) -> dict[str, Any]:
    """Return rows with both labels for each stage of a method, and β, or β/λ for a stage about the constraint."""
    multipliers = dict(zip(config.criteria[1:], trial.multipliers, strict=True))
    rows = draw_dataset(config, world, trial.seed, "both", comparison_rows, trial.pairs)
    stages: dict[str, Any] = {}
    for name, stage in composed.stages.items():
        if stage.criterion is not None:
            stages[name] = {"dataset": {**composed.dataset, **rows}}
            if "beta=" not in trial.entry:
                stages[name]["beta"] = config.beta / multipliers.get(stage.criterion.name, 1.0)
    return {"stages": stages}


def choose_letters(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a letter for each criterion: the known one, else the first letter of its name, or of all, that is free."""
    letters = dict(known)
    for name in names:
        spare = (letter for letter in f"{name}{string.ascii_letters}".upper() if letter not in letters.values())
        letters[name] = letters.get(name) or next(spare)
    return letters
