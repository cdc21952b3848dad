"""From raw rows to checked preferences: which schema they are in, and all that is wrong with them. Pure."""

from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.data import DataSchema, DatasetConfig, OnBadRow
from sacpo_exp.data.checks import BadRowError, list_problems
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.forms import CONVERTERS, FIELDS, OPTIONAL_FIELDS, read_cells
from sacpo_exp.data.preferences import Preferences, Row
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY

SHOWN_FIELDS = 10


def normalise(sources: Sequence[RawRows], dataset: DatasetConfig) -> Preferences:
    """Rows of all sources, which are in one schema, in its form.

    Raises:
        DataError: a source is empty, the schema is not known or lacks a criterion, or there are rows that can't be
            used: file, row, field and value of the first five, and how many more there are. With
            `on_bad_row=skip` such rows are counted and left out, as long as there are others.
    """
    _check_field_names(dataset)
    if empty := [source.where for source in sources if not source.rows]:
        raise DataError(f"{empty[0]} holds no rows.")
    schema = detect_schema(sources, dataset)
    form, _ = CONVERTERS[schema]
    if form != DataSchema.pku and dataset.criterion is None:
        raise DataError(_explain_criterion(sources, schema))
    rows, problems = _convert_all(sources, schema, dataset)
    if problems and (not rows or dataset.on_bad_row == OnBadRow.stop):
        raise DataError(list_problems(problems) + _explain_detection(schema, dataset))
    criterion = None if form == DataSchema.pku else dataset.criterion
    return Preferences(form, schema, criterion, tuple(rows), len(problems))


def detect_schema(sources: Sequence[RawRows], dataset: DatasetConfig) -> DataSchema:
    """`dataset.schema`, or what the fields of the first row that is an object look like.

    Raises:
        DataError: like nothing known.
    """
    if dataset.schema != DataSchema.auto:
        return dataset.schema
    for source in sources:
        for _, value in source.rows:
            if isinstance(value, dict):
                row = _rename(value, dataset)
                if schema := _recognise(row):
                    return schema
                raise DataError(_explain_unknown(source.where, list(row)))
    return DataSchema.pku  # no row is an object, which the check says


def _recognise(row: Row) -> DataSchema | None:
    names = row.keys()
    if "conversations" in names:
        return DataSchema.sharegpt
    if names & (set(FIELDS[DataSchema.pku]) - {"prompt"}):
        return DataSchema.pku
    if names & {"completion", "label"}:
        return DataSchema.unpaired
    if names & {"chosen", "rejected"}:
        is_hh = "prompt" not in names and any(isinstance(row.get(name), str) for name in ("chosen", "rejected"))
        return DataSchema.hh if is_hh else DataSchema.pairs
    # Nothing but a prompt: no other name to give it, so it is the rest that is missing.
    return DataSchema.pku if names <= {"prompt"} else None


def _convert_all(
    sources: Sequence[RawRows], schema: DataSchema, dataset: DatasetConfig
) -> tuple[list[Row], list[tuple[str, int, str]]]:
    _, convert = CONVERTERS[schema]
    rows, problems = [], []
    for source in sources:
        for number, value in source.rows:
            try:
                row = _rename(value, dataset) if isinstance(value, dict) else value
                rows.append(convert(read_cells(row) if source.is_text else row))
            except BadRowError as error:
                problems.append((source.where, number, _in_file_words(error, dataset)))
    return rows, problems


def _rename(row: Row, dataset: DatasetConfig) -> Row:
    """The row with our names for the fields in `dataset.fields`."""
    if not dataset.fields:
        return row
    taken = {*dataset.fields, *dataset.fields.values()}
    kept = {name: value for name, value in row.items() if name not in taken}
    return kept | {ours: row[theirs] for ours, theirs in dataset.fields.items() if theirs in row}


def _in_file_words(error: BadRowError, dataset: DatasetConfig) -> str:
    """The problem with the name that the field has in the file."""
    if error.field is None:
        return error.problem
    name = error.field.split("[")[0].split(".")[0]
    theirs = dataset.fields.get(name, name) + error.field[len(name) :]
    return f"`{theirs}` {error.problem}"


def _check_field_names(dataset: DatasetConfig) -> None:
    known = dict.fromkeys([*(name for names in FIELDS.values() for name in names), *OPTIONAL_FIELDS])
    if unknown := [name for name in dataset.fields if name not in known]:
        raise DataError(
            f"`dataset.fields` gives another name to `{unknown[0]}`, which no schema has; ours are {', '.join(known)}."
        )


def _explain_unknown(where: str, names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:SHOWN_FIELDS])) + (", …" if len(names) > SHOWN_FIELDS else "")
    wanted = [f"  {schema.value}: {', '.join(fields)}" for schema, fields in FIELDS.items()]
    return "\n".join(
        [
            f"{where} is in no schema that is known: its first row has {shown}. Schemas and their fields are",
            *wanted,
            "Other names can be told with `dataset.fields`. Try: +dataset.fields.prompt=NAME_IN_FILE",
        ]
    )


def _explain_criterion(sources: Sequence[RawRows], schema: DataSchema) -> str:
    where = sources[0].where if sources else "the dataset"
    return (
        f"{where} is in the schema {schema.value}, whose labels are about one criterion, but `dataset.criterion` is "
        f"null. Try: dataset.criterion={HELPFULNESS} or dataset.criterion={SAFETY}"
    )


def _explain_detection(schema: DataSchema, dataset: DatasetConfig) -> str:
    if dataset.schema != DataSchema.auto or schema == DataSchema.pku:
        return ""
    return f"\nRead as {schema.value}, by the fields of the first row; `dataset.schema` can name another."
