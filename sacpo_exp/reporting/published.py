"""Published win rates beside ours: a yaml file, shipped or a user's, and which of our policies match its rows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sacpo_exp.config.messages import did_you_mean
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.method.losses import LOSSES
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.tables import Row
from sacpo_exp.statistics.intervals import subtract_shares, wilson
from sacpo_exp.statistics.win_rate import withhold

SHIPPED: Final = resources.files("sacpo_exp.reporting")
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class RowConfig(BaseModel):
    """A row of a file: either `stages`, each [loss, criterion, β or null], or the `name` of a policy made elsewhere.

    `rates` are win rates by criterion, `source` names the row of the table, `note` holds corrections, and `also` other
    names: of the published weights, or in the authors' code.
    """

    model_config = ConfigDict(extra="forbid")
    name: Text | None = None
    stages: list[tuple[str, str, Annotated[float, Field(gt=0)] | None]] = []
    merge: Literal["linear", "naive"] | None = None
    merge_ratio: Share | None = None
    rates: dict[str, Share]
    source: Text
    note: str = ""
    also: tuple[str, ...] = ()


class TableConfig(BaseModel):
    """A file: title for notes, short one for legends; judge, model, dataset and prompts by our names; prompts counted
    by criterion."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    short: Text
    url: Text
    judge: Text
    model: Text
    dataset: Text
    prompts: Text
    counts: dict[str, Annotated[int, Field(gt=0)]]
    rows: Annotated[list[RowConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def check(self) -> "TableConfig":
        """Raise ValueError for a row whose fields don't fit together, or that repeats an earlier one."""
        seen = set()
        for index, row in enumerate(self.rows):
            if bool(row.stages) == (row.name is not None):
                raise ValueError(f"rows[{index}] needs either `stages` or a `name`")
            if (row.merge is None) != (row.merge_ratio is None) or (row.merge and len(row.stages) != 2):
                raise ValueError(f"rows[{index}]: `merge` needs two stages and a `merge_ratio`, which needs a `merge`")
            if unknown := [loss for loss, _, _ in row.stages if loss not in LOSSES]:
                raise ValueError(f"rows[{index}] has the loss {unknown[0]}; there are {', '.join(LOSSES)}")
            if row.rates.keys() != self.counts.keys():
                raise ValueError(f"rows[{index}].rates must be of {', '.join(self.counts)}, but are of {[*row.rates]}")
            policy = make_policy(row, self)
            if (key := policy.hash_without()) in seen:
                raise ValueError(f"rows[{index}] repeats the policy of an earlier row, {policy.name}")
            seen.add(key)
        return self


@dataclass(frozen=True)
class PublishedRow(PolicyScores):
    """A published policy, without records, with its rates and the intervals that its numbers of prompts give."""

    config: RowConfig = field(kw_only=True)


class Published(NamedTuple):
    """A published table with its rows as scores."""

    config: TableConfig
    rows: tuple[PublishedRow, ...]


class Pairing(NamedTuple):
    """A published row, and one of our policies that is trained in the same way; None if we have none."""

    row: PublishedRow
    own: PolicyScores | None


@dataclass(frozen=True)
class Comparison:
    """A group beside a published table: each published row at least once, the shared criteria, lines for a note."""

    published: Published
    pairings: tuple[Pairing, ...]
    criteria: tuple[str, ...]
    notes: tuple[str, ...]


def read_published(against: str, confidence: float) -> Published:
    """Read the table with this name, or in this file.

    Raises:
        ConfigError: there is neither such a name nor such a file.
        DataError: the file is not of this form, with the first mistake.
    """
    names = sorted(Path(entry.name).stem for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))
    path = Path(against).expanduser()
    if against not in names and not path.is_file():
        raise ConfigError(
            f"`against` must be one of {', '.join(names)}, or a yaml file of the same form, but is {against}."
            f"{did_you_mean(against, names)}"
        )
    try:
        text = (SHIPPED / f"{against}.yaml" if against in names else path).read_text("utf-8")
        config = TableConfig.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{against}: {key}: {first['msg'].removeprefix('Value error, ')}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{against} can't be read as yaml: {' '.join(str(error).split())}") from error
    rows = []
    for row in config.rows:
        lineage = make_policy(row, config).to_dict()
        labels: dict[str, Any] = {LINEAGE: lineage, "policy_id": "", "baseline_id": None, "criteria": []}
        rates = {f"{name}_win_rate": wilson(row.rates[name] * n, n, confidence) for name, n in config.counts.items()}
        rows.append(PublishedRow(Evaluation(labels, [], {}, ""), rates, config=row))
    return Published(config, tuple(rows))


def make_policy(row: RowConfig, table: TableConfig) -> Policy:
    """Return the published policy, of which only the stages are known."""
    base = Base("base", row.name or table.model)
    policies: list[Policy] = [base]
    for loss, criterion, beta in row.stages:
        recipe = {"loss": {"name": loss}, "criterion": criterion, "beta": beta}
        stage = Stage(recipe, letter=criterion[:1].upper(), dataset=table.dataset)
        policies.append(Aligned(f"{len(policies)}", base if row.merge == "naive" else policies[-1], stage))
    if row.merge_ratio is None:
        return policies[-1]
    return Merged("merged", tuple(policies[1:]), (1 - row.merge_ratio, row.merge_ratio))


def compare_with(scores: GroupScores, published: Published) -> Comparison:
    """Match policies by losses, order, kind of merge, q, and β of all stages."""
    own = [row for row in scores.policies if not row.policy.is_baseline]
    pairings: list[Pairing] = []
    for row in published.rows:
        matches = [each for each in own if _is_same(row.policy.policy, each.policy.policy, row.config.also)]
        pairings += [Pairing(row, match) for match in matches] or [Pairing(row, None)]
    matched = {pairing.own.policy.id for pairing in pairings if pairing.own}
    unmatched = sum(row.policy.id not in matched for row in own)
    criteria = tuple(each.name for each in scores.group.criteria if each.name in published.config.counts)
    notes = list(_describe_differences(scores, published.config))
    notes.append(f"{unmatched} of our policies, the baseline apart, have no published row. Sources: published.csv.")
    return Comparison(published, tuple(pairings), criteria, tuple(notes))


def _describe_differences(scores: GroupScores, table: TableConfig) -> Iterator[str]:
    labels = [row.policy.labels for row in scores.policies]
    judge, judge_id = labels[0]["judge"], str(labels[0]["judge_id"])
    ours = {"judge": table.judge if judge_id.startswith(table.judge) else f"{judge} ({judge_id})"}
    for name in ("prompts", "model", "dataset"):
        ours[name] = ", ".join(sorted({str(own[name]) for own in labels if own.get(name)}))
    for name, value in ours.items():
        if getattr(table, name) != value:
            yield f"Other {name}: {getattr(table, name)} there, {value} here; differences may come from it."


def _is_same(theirs: Policy, ours: Policy, also: Sequence[str]) -> bool:
    if ours.family in also or (ours.family == theirs.family and not theirs.aligned):
        return True
    steps, own = _list_settings(theirs), _list_settings(ours)
    return len(steps) == len(own) > 0 and all(
        a is None or b is None or (a == b if isinstance(a, str) else math.isclose(a, b))
        for a, b in zip(steps, own, strict=True)
    )


def _list_settings(policy: Policy) -> list[Any]:
    """Return criterion, loss, kind of merge, β and weight of each stage; of a naive merge sorted by criterion."""
    kind = ("naive" if policy.is_naive else "linear") if isinstance(policy, Merged) else ""
    weights = policy.weights or [None] * len(policy.aligned)
    pairs = zip(policy.aligned, weights, strict=False)
    steps = [(str(stage.criterion), stage.loss, kind, stage.beta, weight) for stage, weight in pairs]
    return [value for step in (sorted(steps) if kind == "naive" else steps) for value in step]


def published_rows(comparison: Comparison, confidence: float) -> Iterator[Row]:
    """Yield a row per published policy and policy of ours that matches it, whose cells are empty if there is none."""
    for row, own in comparison.pairings:
        columns: dict[str, Any] = row.policy.policy.columns
        cells: Row = {"published": row.policy.title}
        cells |= {name: columns[name] for name in ("family", "beta_first", "beta", "merge_ratio")}
        cells |= {"source": row.config.source, "note": row.config.note}
        cells |= {"policy": own.policy.title if own else None, "policy_id": own.policy.id if own else None}
        for name in comparison.criteria:
            share = rate = own.rate(name) if own else withhold(0)
            if not math.isnan(rate.value):  # Wilson's interval, as the published rate has
                share = wilson(rate.value * rate.n, rate.n, confidence)
            difference = subtract_shares(share, row.rate(name)) if own else rate
            cells |= {f"{name}_published": row.rate(name), f"{name}_own": rate, f"{name}_difference": difference}
            cells[f"{name}_excludes_zero"] = difference.excludes_zero if own else None
        yield cells
