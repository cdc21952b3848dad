"""Read generation and judgment files of the paper's code (https://github.com/line/sacpo)."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.files import RawRows, find_files, read_object, read_raw
from sacpo_exp.data.prompts import Entry, number_prompts, read_rows
from sacpo_exp.data.responses import NAME_FIELD, ROWS_FIELD, ImportedResponses, read_responses
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY

#: The paper's names of criteria: ours, and the least and greatest score that its prompts allow.
CRITERIA: Final = {"helpfulness": (HELPFULNESS, (1.0, 10.0)), "harmlessness": (SAFETY, (0.0, 10.0))}
SCALES: Final = dict(CRITERIA.values())


class Row(BaseModel):
    """A question, the answers of two models in the order in which the judge saw them, and every judgment of them.

    Both scores of a judgment are 0 where the call failed or its text was not understood; `gpt_content` is null where
    the call failed.
    """

    model_config = ConfigDict(strict=True)
    criteria: Literal["helpfulness", "harmlessness"]
    question: str
    model1: str
    model2: str
    answer1: str
    answer2: str
    score1: list[Annotated[float, Field(allow_inf_nan=False)]]
    score2: list[Annotated[float, Field(allow_inf_nan=False)]]
    gpt_content: list[str | None]

    @property
    def criterion(self) -> str:
        return CRITERIA[self.criteria][0]

    @property
    def models(self) -> tuple[str, str]:
        return self.model1, self.model2

    def scores_of(self, model: str) -> list[tuple[float, float]]:
        """Return (own, other) score of every judgment, from the side of `model`."""
        own, other = (self.score1, self.score2) if model == self.model1 else (self.score2, self.score1)
        return list(zip(own, other, strict=True))


def read_results(paths: Iterable[str]) -> tuple[list[ImportedResponses], list[Entry[Row]]]:
    """Return the generations and judgments of all files, and of all files in the folders, among `paths`.

    Raises:
        DataError: a file can't be read, has another form, or has rows that can't be used, with their numbers.
    """
    generations, judgments = [], []
    for file in dict.fromkeys(file.resolve() for path in paths for file in find_files(path)):
        where = str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
        whole = read_object(file, where)
        if whole is not None and isinstance(whole.get(ROWS_FIELD), list) and isinstance(whole.get(NAME_FIELD), str):
            generations.append(read_responses(where))
            continue
        raw = RawRows(where, [(1, whole)]) if whole is not None else read_raw(file, where)
        if raw.rows and not any(isinstance(row, dict) and "criteria" in row for _, row in raw.rows):
            raise DataError(
                f"{where} is neither a generation file (`model_name`, `data`) nor a judgment file (rows with "
                "`criteria`, `question`, `model1`, …) of the paper's code. Responses of another form: "
                "sacpo eval responses=[FILE,FILE]"
            )
        judgments += read_rows(raw, _read_row)
    return generations, judgments


def _read_row(value: Any) -> Row:
    check_object(value)
    try:
        row = Row.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        if problem["type"] == "missing":
            raise BadRowError(field, "is missing") from error
        raise BadRowError(field, f"is wrong: {problem['msg']}, but is {show(problem['input'])}") from error
    row.model1, row.model2 = printable(row.model1), printable(row.model2)
    for name in ("question", "model1", "model2"):
        check_text(getattr(row, name), name)
    if row.model1 == row.model2:
        raise BadRowError("model2", f"must be another model than `model1`, but both are {show(row.model1)}")
    counts = [len(row.score1), len(row.score2), len(row.gpt_content)]
    if len(set(counts)) > 1:
        raise BadRowError(None, f"must have as many values in `score1`, `score2` and `gpt_content`, but has {counts}")
    return row


def gather_answers(generations: list[ImportedResponses], judgments: list[Entry[Row]]) -> list[ImportedResponses]:
    """Return all answers of every model, sorted by the model's name.

    A prompt that was judged for one criterion only is of the kind on which that criterion is scored.

    Raises:
        DataError: a model has two answers to one prompt.
    """
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    categories: dict[str, Any] = {}
    for generation in generations:
        for prompt, response in zip(generation.prompts, generation.responses, strict=True):
            categories[prompt["prompt"]] = prompt["category"]
            if answers[generation.name].setdefault(prompt["prompt"], response) != response:
                raise DataError(
                    f"{generation.path} has another answer of {generation.name} than an earlier file to "
                    f"{show(prompt['prompt'])}. Try: one of them at a time"
                )
    problems, criteria = [], defaultdict[str, set[str]](set)
    for entry in judgments:
        row = entry.value
        criteria[row.question].add(row.criterion)
        for name, answer in zip(row.models, (row.answer1, row.answer2), strict=True):
            if answers[name].setdefault(row.question, answer) != answer:
                problem = f"has another answer of {name} than an earlier row or file to {show(row.question)}"
                problems.append((entry.where, entry.number, problem))
    if problems:
        raise DataError(list_problems(problems))
    known = shipped_criteria()
    kinds = {text: [kind for name in names for kind in known[name].prompt_kinds] for text, names in criteria.items()}

    def describe(number: int, text: str) -> Entry[dict[str, Any]]:
        kind = kinds[text][0] if len(kinds.get(text, ())) == 1 else None
        prompt = {"prompt_id": None, "prompt": text, "kind": kind, "category": categories.get(text)}
        return Entry("", number, prompt)

    return [
        ImportedResponses(name, number_prompts(describe(*each) for each in enumerate(said, 1)), list(said.values()))
        for name, said in sorted(answers.items())
    ]
