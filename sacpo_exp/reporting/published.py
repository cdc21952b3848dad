"""Published win rates beside ours: a yaml file, shipped or a user's, and which of our policies match its rows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

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

    Attributes:
        rates: win rate by criterion.
        source: row of the table, and where else the training settings are from.
        note: corrections.
        also: other names: of its published weights, or in its authors' code.
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

    @model_validator(mode="after")
    def check(self) -> "RowConfig":
        """Raise ValueError for fields that don't fit together."""
        if bool(self.stages) == (self.name is not None):
            raise ValueError("needs either `stages` or a `name`")
        if (self.merge is None) != (self.merge_ratio is None) or (self.merge and len(self.stages) != 2):
            raise ValueError("`merge` needs two stages and a `merge_ratio`, which needs a `merge`")
        if unknown := [loss for loss, _, _ in self.stages if loss not in LOSSES]:
            raise ValueError(f"has a stage with the loss {unknown[0]}; there are {', '.join(LOSSES)}")
        return self


class TableConfig(BaseModel):
    """A file.

    Attributes:
        title, short: of the table, for notes and for legends.
        judge, model, dataset, prompts: by our names, so that a report can state differences.
        counts: prompts by criterion.
    """

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
        """Raise ValueError for a row with other criteria than `counts`, or that repeats an earlier one."""
        seen = set()
        for index, row in enumerate(self.rows):
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


@dataclass(frozen=True)
class Published:
    """A published table; `confidence` is that of the rows' intervals."""

    config: TableConfig
    confidence: float
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class Pairing:
    """A published row, and one of our policies that is trained in the same way; None if we have none."""

    row: PublishedRow
    own: PolicyScores | None


@dataclass(frozen=True)
class Comparison:
    """A group beside a published table.

    Attributes:
        pairings: in the order of the table, each row at least once.
        criteria: names of those that both sides have rates for.
        unmatched: how many of our policies, without the baseline, are in no pairing.
        differing: settings that are not the same: ("judge", theirs, ours).
    """

    published: Published
    pairings: tuple[Pairing, ...]
    criteria: tuple[str, ...]
    unmatched: int
    differing: tuple[tuple[str, str, str], ...]


def list_shipped() -> list[str]:
    """Return the names that `against` can be."""
    return sorted(Path(entry.name).stem for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def read_published(against: str, confidence: float) -> Published:
    """Read the table with this name, or in this file.

    Raises:
        ConfigError: there is neither such a name nor such a file.
        DataError: the file is not of this form, with the first mistake.
    """
    names, path = list_shipped(), Path(against).expanduser()
    if against not in names and not path.is_file():
        raise ConfigError(
            f"`against` must be one of {', '.join(names)}, or a yaml file of the same form, but is {against}."
            f"{did_you_mean(against, names)}"
        )
    try:
        text = (SHIPPED / f"{against}.yaml" if against in names else path).read_text("utf-8")
        config = TableConfig.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise DataError(f"{against}: {_explain(error)}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{against} can't be read as yaml: {' '.join(str(error).split())}") from error
    rows = []
    for row in config.rows:
        lineage = make_policy(row, config).to_dict()
        labels: dict[str, Any] = {LINEAGE: lineage, "policy_id": "", "baseline_id": None, "criteria": []}
        rates = {f"{name}_win_rate": wilson(row.rates[name] * n, n, confidence) for name, n in config.counts.items()}
        rows.append(PublishedRow(Evaluation(labels, [], {}, ""), rates, config=row))
    return Published(config, confidence, tuple(rows))


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ").split(" or instance of ")[0]
    value = "" if isinstance(first["input"], dict) else f", but is {first['input']!r:.60}"
    return f"{f'`{key}`: ' if key else ''}{message}{value}."


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
    criteria = tuple(each.name for each in scores.group.criteria if each.name in published.config.counts)
    pairings: list[Pairing] = []
    for row in published.rows:
        matches: list[PolicyScores | None] = [
            each for each in own if _is_same(row.policy.policy, each.policy.policy, row.config.also)
        ]
        pairings += [Pairing(row, match) for match in matches or [None]]
    matched = {pairing.own.policy.id for pairing in pairings if pairing.own}
    unmatched = sum(row.policy.id not in matched for row in own)
    return Comparison(published, tuple(pairings), criteria, unmatched, tuple(_find_differing(scores, published.config)))


def _is_same(theirs: Policy, ours: Policy, also: Sequence[str]) -> bool:
    if ours.family in also or (ours.family == theirs.family and not theirs.aligned):
        return True
    steps, own_steps = _list_steps(theirs), _list_steps(ours)
    return [names for names, _ in steps] == [names for names, _ in own_steps] != [] and all(
        value is None or own is None or math.isclose(value, own)
        for (_, values), (_, own_values) in zip(steps, own_steps, strict=True)
        for value, own in zip(values, own_values, strict=True)
    )


def _list_steps(policy: Policy) -> list[tuple[tuple[str, ...], tuple[float | None, ...]]]:
    """Return (criterion, loss, kind of merge) and (β, weight) of each stage; of a naive merge sorted by criterion."""
    kind = ("naive" if policy.is_naive else "linear") if isinstance(policy, Merged) else ""
    weights = [*policy.weights, *[None] * len(policy.aligned)]
    steps: list[tuple[tuple[str, ...], tuple[float | None, ...]]] = [
        ((str(stage.criterion), stage.loss, kind), (stage.beta, weight))
        for stage, weight in zip(policy.aligned, weights, strict=False)
    ]
    return sorted(steps, key=lambda step: step[0][0]) if kind == "naive" else steps


def _find_differing(scores: GroupScores, theirs: TableConfig) -> list[tuple[str, str, str]]:
    labels = [row.policy.labels for row in scores.policies]
    judge_id = str(labels[0]["judge_id"])
    ours = {
        "judge": theirs.judge if judge_id.startswith(theirs.judge) else f"{labels[0]['judge']} ({judge_id})",
        "prompts": labels[0]["prompts"],
    }
    for name in ("model", "dataset"):
        ours[name] = ", ".join(sorted({str(own[name]) for own in labels if own.get(name)}))
    return [(name, getattr(theirs, name), value) for name, value in ours.items() if getattr(theirs, name) != value]


def published_rows(comparison: Comparison) -> Iterator[Row]:
    """Yield a row per published policy and policy of ours that matches it, whose cells are empty if there is none."""
    for pairing in comparison.pairings:
        row, own = pairing.row, pairing.own
        columns: dict[str, Any] = row.policy.policy.columns
        cells: Row = {"published": row.policy.title}
        cells |= {name: columns[name] for name in ("family", "beta_first", "beta", "merge_ratio")}
        cells |= {"source": row.config.source, "note": row.config.note}
        cells |= {"policy": own.policy.title if own else None, "policy_id": own.policy.id if own else None}
        for name in comparison.criteria:
            share = rate = own.rate(name) if own else withhold(0)
            if not math.isnan(rate.value):  # Wilson's interval, as the published rate has
                share = wilson(rate.value * rate.n, rate.n, comparison.published.confidence)
            difference = subtract_shares(share, row.rate(name)) if own else rate
            cells |= {f"{name}_published": row.rate(name), f"{name}_own": rate, f"{name}_difference": difference}
            cells[f"{name}_excludes_zero"] = difference.excludes_zero if own else None
        yield cells
