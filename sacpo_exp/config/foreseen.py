"""Sizes that are known before anything is read: for estimates only, never part of an id."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class DatasetSizeConfig:
    """Of the training part of a dataset on the hub; means over rows, without the chat template."""

    rows: int = MISSING
    prompt_tokens: float = MISSING
    completion_tokens: float = MISSING


@dataclass
class PromptsSizeConfig:
    """Of evaluation prompts whose files are not given yet."""

    benign: int = MISSING
    risky: int = MISSING
    characters: int = MISSING  # of each
