"""Identity of artifacts: a readable slug and a hash of all that determines the content."""

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

#: Raised when the code changes what an unchanged recipe produces, so that old artifacts are no longer taken for new.
SCHEMA_VERSION = 1


def content_hash(value: Any) -> str:
    """Hex SHA-256 of a value of plain types, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_of(artifact_id: str) -> str:
    """Return the part of an id that identifies the artifact; the slug before it is a label."""
    return artifact_id.rsplit("-", 1)[-1]


@dataclass(frozen=True, eq=False)
class ArtifactSpec:
    """What an artifact is made from.

    Attributes:
        kind: folder of the store: `model`, `stage`, `merge`, `responses`, `divergence`, `scorer`, `judgments`,
            `distribution`, `choice`.
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArtifactSpec) and (self.kind, self.hash) == (other.kind, other.hash)

    def __hash__(self) -> int:
        return hash(self.hash)

    @functools.cached_property
    def hash(self) -> str:
        parents = [hash_of(parent) for parent in self.parents]
        identity = {"kind": self.kind, "schema": SCHEMA_VERSION, "recipe": self.recipe, "parents": parents}
        return content_hash(identity)[:10]

    @property
    def id(self) -> str:
        slug = re.sub(r"[^a-z0-9.]+", "-", self.slug.lower())[:80].strip("-.")
        return f"{slug}-{self.hash}"
