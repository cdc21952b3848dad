"""Criteria: what a stage aligns for and a judge scores. Each is a file of conf/criterion/."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: The criteria of the paper, whose files are shipped; demo data, presets and axes of figures name them by default.
HELPFULNESS, SAFETY = "helpfulness", "safety"


class Pairing(Enum):
    """Which response of two is the chosen one."""

    preferred = "preferred"  # the one that `Criterion.preferred` says
    acceptable_first = "acceptable_first"  # the acceptable one if the other is not, else the preferred one
    acceptable_only = "acceptable_only"  # the same, without rows of which no response is acceptable


@dataclass
class Criterion:
    """Where the labels of a criterion come from, and what its judges are asked.

    Attributes:
        name: also the name of its stage in a configuration.
        letter: in names of policies, as in `DPO(H)`.
        preferred: field of rows with two responses that holds the index of the better one. None: such rows have no
            labels for the criterion.
        acceptable: field that says of one response, numbered by `{i}`, whether it is acceptable by itself. None: of
            a pair the better response is desirable.
        prompt_kinds: kinds of evaluation prompts that count for it; prompts without a kind always count.
        template: file, without `.txt`, of the judge's template; None: the criterion's name.
        pairing: how the two fields choose the better of two responses.
    """

    name: str = "???"
    letter: str = "???"
    preferred: str | None = None
    acceptable: str | None = None
    prompt_kinds: list[str] = field(default_factory=list)
    template: str | None = None
    pairing: Pairing = Pairing.preferred

    @property
    def text(self) -> str:
        """Name of its text in a judge's template."""
        return self.template or self.name

    def to_judge(self) -> dict[str, Any]:
        """Return the fields that judging and reports read; they don't pair responses."""
        return {name: value for name, value in vars(self).items() if name != "pairing"}

    def counts(self, kind: str | None) -> bool:
        """Whether a prompt of this kind counts; None is unknown, and counts for every criterion."""
        return kind is None or not self.prompt_kinds or kind in self.prompt_kinds
