"""Evaluation prompts: `prompt_id`, `prompt`, and where known `kind` (benign or risky) and `category`."""

from typing import Any

from sacpo_exp.config.schema import DatasetConfig, DatasetSource, PromptsConfig
from sacpo_exp.data.demo import generate_prompts
from sacpo_exp.store import content_hash


def load_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> list[dict[str, Any]]:
    """The prompts in their order, at most `prompts.limit` of them.

    The demo's split into parts hangs on the dataset's seed, and so do its evaluation prompts.
    """
    seed = dataset.seed if dataset.source == DatasetSource.demo else 0
    return generate_prompts(seed)[: prompts.limit]


def fingerprint_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> str:
    """Hash of the prompts that `load_prompts` gives."""
    return content_hash(load_prompts(prompts, dataset))
