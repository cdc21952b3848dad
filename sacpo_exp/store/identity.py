"""Identity of artifacts: a readable slug and a hash of all that determines the content."""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Raised when the code changes what an unchanged recipe produces, so that old artifacts are no longer taken for new.
SCHEMA_VERSION = 2
#: Folders of the store.
KINDS: Final = (
    "model", "dataset", "reference", "stage", "merge", "distribution",
    "responses", "divergence", "preference", "scorer", "scores", "judgments", "choice",
)  # fmt: skip


def content_hash(value: Any) -> str:
    """Hex SHA-256 of a value of plain types, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_of(artifact_id: str) -> str:
    """Return the part of an id that identifies the artifact; the slug before it is a label."""
    return artifact_id.rsplit("-", 1)[-1]


def is_id(name: str) -> bool:
    """Whether something may be the id of an artifact, and thus the name of a folder."""
    return re.fullmatch(r"([a-z0-9][a-z0-9.-]{0,79})?-[0-9a-f]{10}", name) is not None


def recipe_hash(kind: str, recipe: dict[str, Any], parents: Sequence[str], schema: int = SCHEMA_VERSION) -> str:
    """Return the end of an id, which identifies the artifact."""
    ends = [hash_of(parent) for parent in parents]
    return content_hash({"kind": kind, "schema": schema, "recipe": recipe, "parents": ends})[:10]


@dataclass(frozen=True, eq=False)
class ArtifactSpec:
    """What an artifact is made from.

    Attributes:
        kind: one of `KINDS`.
        slug: for people; not part of the identity.
        recipe: plain values; everything that determines the content and nothing else.
        parents: ids of the artifacts that this one is made from; part of the recipe too.
        labels: for people and reports; not part of the identity.
    """

    kind: str
    slug: str
    recipe: dict[str, Any]
    parents: tuple[str, ...]
    labels: dict[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind} is not among the kinds of artifacts, {KINDS}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArtifactSpec) and (self.kind, self.hash) == (other.kind, other.hash)

    def __hash__(self) -> int:
        return hash(self.hash)

    @functools.cached_property
    def hash(self) -> str:
        return recipe_hash(self.kind, self.recipe, self.parents)

    @property
    def id(self) -> str:
        slug = re.sub(r"[^a-z0-9.]+", "-", self.slug.lower())[:80].strip("-.")
        return f"{slug}-{self.hash}"
