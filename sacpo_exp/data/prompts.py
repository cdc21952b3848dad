"""Evaluation prompts: `prompt_id`, `prompt`, and where known `kind` (as criteria name it) and `category`, else None."""

from collections.abc import Collection

from sacpo_exp.config.data import DatasetConfig, DatasetSource, PromptsConfig, PromptsSource
from sacpo_exp.data.checks import show
from sacpo_exp.data.demo import generate_prompts
from sacpo_exp.data.prompt_sets import (
    BENIGN,
    RISKY,
    Entry,
    Prompt,
    number_prompts,
    read_entries,
    read_prompt,
    read_xstest_prompt,
    take_in_turn,
)
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.store import content_hash


def load_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> list[Prompt]:
    """The prompts, kinds in turn, so that the first `prompts.limit` of them hold all kinds alike.

    The demo's split into parts hangs on the dataset's seed, and so do its evaluation prompts.

    Raises:
        DataError: a file can't be read, has no rows or rows that can't be used, or two with one id.
    """
    if prompts.source == PromptsSource.demo:
        seed = dataset.seed if dataset.source == DatasetSource.demo else 0
        return generate_prompts(seed)[: prompts.limit]
    return take_in_turn(number_prompts(_read_files(prompts)))[: prompts.limit]


def check_kinds(prompts: Collection[Prompt], criteria: Collection[Criterion]) -> None:
    """Raises DataError for the first prompt that none of the criteria counts: its kind may be misspelt."""
    for prompt in prompts:
        if not any(criterion.counts(prompt["kind"]) for criterion in criteria):
            kinds = dict.fromkeys(kind for criterion in criteria for kind in criterion.prompt_kinds)
            raise DataError(
                f"the prompt {show(prompt['prompt_id'])} is of the kind {show(prompt['kind'])}, which no criterion "
                f"counts; their `prompt_kinds` are {', '.join(kinds)}. Prompts without a kind count for all."
            )


def foresee_prompts(prompts: PromptsConfig) -> list[Prompt]:
    """As many blank prompts as there will be, for a plan; none where files are given, or nothing is foreseen."""
    size = prompts.foreseen
    if size is None or prompts.helpful_path or prompts.safety_path:
        return []
    kinds = [BENIGN] * size.benign + [RISKY] * size.risky
    names = [f"foreseen-{number}" for number in range(1, len(kinds) + 1)]
    blank = [
        {"prompt_id": name, "prompt": name.ljust(size.characters, "."), "kind": kind, "category": None}
        for name, kind in zip(names, kinds, strict=True)
    ]
    return take_in_turn(blank)[: prompts.limit]


def fingerprint_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> str:
    """Hash of the prompts that `load_prompts` gives."""
    return content_hash(load_prompts(prompts, dataset))


def _read_files(prompts: PromptsConfig) -> list[Entry[Prompt]]:
    if prompts.source == PromptsSource.xstest:
        return read_entries(prompts.path or "", read_xstest_prompt)
    if prompts.source == PromptsSource.local:
        return _read_file(prompts.path or "", prompts.field, prompts.kind)
    files = ((prompts.helpful_path, BENIGN), (prompts.safety_path, RISKY))
    return [entry for path, kind in files if path for entry in _read_file(path, prompts.field, kind)]


def _read_file(path: str, field: str, kind: str | None) -> list[Entry[Prompt]]:
    return read_entries(path, lambda row: read_prompt(row, field, kind))
