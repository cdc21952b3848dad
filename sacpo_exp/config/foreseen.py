"""Sizes that are known before anything is read: for estimates only, never part of an id."""

from dataclasses import dataclass

from sacpo_exp.config.bounds import bounded, count


@dataclass
class DatasetSizeConfig:
    """Of the training part of a dataset on the hub; means over rows, without the chat template."""

    rows: int = count()
    prompt_tokens: float = bounded(least=0)
    completion_tokens: float = bounded(least=0)


@dataclass
class PromptsSizeConfig:
    """Of evaluation prompts whose files are not given yet."""

    benign: int = count(0)
    risky: int = count(0)
    characters: int = count(0)  # of each
