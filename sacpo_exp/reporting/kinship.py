"""Which artifacts are the same but for the seed, told by the recipes of all that they descend from."""

from collections.abc import Mapping
from typing import Any

from sacpo_exp.store import Manifest, content_hash, hash_of


class Kinship:
    """Kinship among stored artifacts.

    Args:
        manifests: by artifact id; what is not among them is kin to nothing.
    """

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self.manifests = {hash_of(artifact_id): manifest for artifact_id, manifest in manifests.items()}
        self._keys: dict[str, str] = {}

    def key(self, artifact_id: str) -> str:
        """The same for artifacts whose recipes, and those of all ancestors, differ in nothing but `seed`."""
        own = hash_of(artifact_id)
        if own not in self._keys:
            self._keys[own] = self._find(own)
        return self._keys[own]

    def _find(self, own: str) -> str:
        manifest = self.manifests.get(own)
        if manifest is None:
            return own
        recipe = {name: self._strip(value) for name, value in manifest.recipe.items() if name != "seed"}
        parents = [self.key(parent) for parent in manifest.parents]
        return content_hash([manifest.kind, manifest.schema, recipe, parents])

    def _strip(self, value: Any) -> Any:
        """Hashes of artifacts inside of recipes, as the model's in that of a tokenised dataset, depend on its seed."""
        if isinstance(value, dict):
            return {name: self._strip(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [self._strip(entry) for entry in value]
        return self.key(value) if isinstance(value, str) and value in self.manifests else value
