"""What a family's name says: the losses and criteria of its stages, their order, and how it was merged. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from sacpo_exp.config.schema import Criterion, MergeMethod
from sacpo_exp.plan import LETTERS

STAGE: Final = re.compile(r"(?:(\w+) )?([A-Z]+)\(([HS])\)")
PREFIXES: Final = {"P-SACPO ": MergeMethod.linear, "naive ": MergeMethod.naive}
CRITERIA: Final = {letter: criterion for criterion, letter in LETTERS.items()}
ORDERS: Final = {"H": "helpful_only", "S": "safety_only", "HS": "helpful_first", "SH": "safety_first"}


@dataclass(frozen=True)
class FamilyName:
    """A name that `plan` gives, taken apart.

    Attributes:
        stages: (loss, criterion) of each, in order; of a naive merge the two policies that are averaged.
        adapter: its tag, or empty.
        merge: None where nothing is merged.
    """

    stages: tuple[tuple[str, Criterion], ...]
    adapter: str = ""
    merge: MergeMethod | None = None

    @property
    def order(self) -> str:
        """The option of `order`; of a naive merge, which has none, `naive`."""
        letters = "".join(LETTERS[criterion] for _, criterion in self.stages)
        return "naive" if self.merge is MergeMethod.naive else ORDERS.get(letters, letters)

    @property
    def losses(self) -> str:
        """As the options of `objective`: `dpo`, `dpo_then_kto`."""
        return "_then_".join(dict.fromkeys(loss for loss, _ in self.stages))

    @property
    def parts(self) -> "tuple[FamilyName, ...]":
        """Each stage as a policy that has this stage alone."""
        return tuple(FamilyName((stage,), self.adapter) for stage in self.stages)

    @property
    def mirrored(self) -> "FamilyName":
        """The same stages the other way round."""
        return FamilyName(self.stages[::-1], self.adapter, self.merge)


def read_family(name: str) -> FamilyName | None:
    """None for what has no stage of ours: the baseline, and policies that were made elsewhere."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    merge = PREFIXES.get(prefix)
    sign = "+" if merge is MergeMethod.naive else "→"
    found = [STAGE.fullmatch(part) for part in name.removeprefix(prefix).split(sign)]
    if None in found or (merge is not None and len(found) != 2):
        return None
    stages = tuple((match[2].lower(), CRITERIA[match[3]]) for match in found if match)
    return FamilyName(stages, (found[0] and found[0][1]) or "", merge)
