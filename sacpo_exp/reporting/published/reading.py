"""Published numbers from a yaml file: one that is shipped, by name, or one of a user, and what is wrong with it."""

from collections import Counter
from dataclasses import dataclass
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
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.statistics.intervals import Estimate, wilson
from sacpo_exp.statistics.win_rate import withhold

SHIPPED: Final = resources.files("sacpo_exp.reporting.published")
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Row(BaseModel):
    """A row of a file: either `stages`, each [loss, criterion, β or null], or the `name` of a policy made elsewhere.

    Further keys are win rates by criterion.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Share]
    name: Text | None = None
    stages: list[tuple[str, str, Annotated[float, Field(gt=0)] | None]] = []
    merge: Literal["linear", "naive"] | None = None
    merge_ratio: Share | None = None
    source: Text
    note: str = ""
    also: list[str] = []

    @model_validator(mode="after")
    def check(self) -> "_Row":
        """Raises ValueError for what a field by itself can't tell."""
        if bool(self.stages) == (self.name is not None):
            raise ValueError("needs either `stages` or a `name`")
        if (self.merge is None) != (self.merge_ratio is None) or (self.merge and len(self.stages) != 2):
            raise ValueError("`merge` needs two stages and a `merge_ratio`, which needs a `merge`")
        if unknown := [loss for loss, _, _ in self.stages if loss not in LOSSES]:
            raise ValueError(f"has a stage with the loss {unknown[0]}; there are {', '.join(LOSSES)}")
        return self


class _File(BaseModel):
    """A published table."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    short: Text
    url: Text
    judge: Text
    model: Text
    dataset: Text
    prompts: Text
    counts: dict[str, Annotated[int, Field(gt=0)]]
    rows: Annotated[list[_Row], Field(min_length=1)]

    @model_validator(mode="after")
    def check(self) -> "_File":
        """Raises ValueError if a row lacks a rate, or has a key that is neither known nor a criterion."""
        for place, row in enumerate(self.rows):
            if missing := [name for name in self.counts if name not in row.__pydantic_extra__]:
                raise ValueError(f"rows[{place}] lacks {missing[0]}")
            if unknown := [name for name in row.__pydantic_extra__ if name not in self.counts]:
                known = [*_Row.model_fields, *self.counts]
                raise ValueError(f"rows[{place}].{unknown[0]} is not known.{did_you_mean(unknown[0], known)}")
        return self


@dataclass(frozen=True)
class PublishedRow:
    """What others found of one policy, with the intervals that their number of prompts gives.

    Attributes:
        policy: without records.
        rates: by criterion.
        source: the row of the table, and what else tells what was trained.
        note: what was corrected; mostly empty.
        also: other names of it: of its published weights, or in its authors' code.
    """

    policy: Evaluation
    rates: dict[str, Estimate]
    source: str
    note: str
    also: tuple[str, ...]

    @property
    def seeds(self) -> tuple[()]:
        """None is published."""
        return ()

    def rate(self, criterion: str) -> Estimate:
        """Win rate for a criterion; without number where none is published."""
        return self.rates.get(criterion, withhold(0))


@dataclass(frozen=True)
class Published:
    """A table of others.

    Attributes:
        title, short: of the table, for notes and for legends.
        url: where it is.
        judge, model, dataset, prompts: as ours are called, so that a report can say where they differ.
        confidence: of the rows' intervals.
    """

    title: str
    short: str
    url: str
    judge: str
    model: str
    dataset: str
    prompts: str
    confidence: float
    rows: tuple[PublishedRow, ...]


def list_shipped() -> list[str]:
    """Names that `against` knows."""
    return sorted(Path(entry.name).stem for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def read_published(against: str, confidence: float) -> Published:
    """The table of this name, or in this file.

    Args:
        confidence: of the Wilson intervals, in (0, 1).

    Raises:
        ConfigError: there is neither such a name nor such a file.
        DataError: the file is not of the form that it should be; the first thing that is wrong.
    """
    names, path = list_shipped(), Path(against).expanduser()
    if against in names:
        text = (SHIPPED / f"{against}.yaml").read_text("utf-8")
    elif path.is_file():
        text = _read_text(path)
    else:
        raise ConfigError(
            f"`against` must be one of {', '.join(names)}, or a yaml file of the same form, but is {against}."
            f"{did_you_mean(against, names)}"
        )
    try:
        content = _File.model_validate(_parse(text, against))
    except ValidationError as error:
        raise DataError(f"{against}: {_explain(error)}") from error
    rows = tuple(_make_row(row, content, confidence) for row in content.rows)
    if repeated := [name for name, n in Counter(row.policy.policy.hash_without() for row in rows).items() if n > 1]:
        twice = next(row for row in rows if row.policy.policy.hash_without() == repeated[0])
        name = twice.policy.title
        raise DataError(f"{against}: `rows` must each be about another policy, but more than one is {name}.")
    texts = content.model_dump(exclude={"counts", "rows"})
    return Published(**texts, confidence=confidence, rows=rows)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as text: {error}") from error


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        reason = f"line {mark.line + 1}: {problem}" if mark else " ".join(str(error).split())
        raise DataError(f"{name} can't be read as yaml: {reason}.") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ").split(" or instance of ")[0]  # of a class of ours
    found = "" if isinstance(first["input"], dict) else f", but is {first['input']!r:.60}"
    return f"{f'`{key}`: ' if key else ''}{message}{found}."


def _make_row(row: _Row, content: _File, confidence: float) -> PublishedRow:
    rates = {name: wilson(row.__pydantic_extra__[name] * n, n, confidence) for name, n in content.counts.items()}
    policy = _make_policy(row, content)
    labels: dict[str, Any] = {LINEAGE: policy.to_dict(), "policy_id": "", "baseline_id": None, "criteria": []}
    return PublishedRow(Evaluation(labels, [], {}, ""), rates, row.source, row.note, tuple(row.also))


def _make_policy(row: _Row, content: _File) -> Policy:
    """The published policy, of which no more is known than its stages."""
    base = Base("base", row.name or content.model)
    policies: list[Policy] = [base]
    for loss, criterion, beta in row.stages:
        recipe = {"loss": {"name": loss}, "criterion": criterion, "beta": beta}
        stage = Stage(recipe, letter=criterion[:1].upper(), dataset=content.dataset)
        parent = base if row.merge == "naive" else policies[-1]
        policies.append(Aligned(f"{len(policies)}", parent, stage))
    if row.merge_ratio is None:
        return policies[-1]
    return Merged("merged", tuple(policies[1:]), (1 - row.merge_ratio, row.merge_ratio))
