"""Which artifacts are the same but for the seed, told by the recipes of all that they descend from."""

from collections.abc import Mapping
from typing import Any

from sacpo_exp.store import Manifest, content_hash


class Kinship:
    """Kinship among stored artifacts.

    Args:
        manifests: by artifact id; what is not among them is kin to nothing.
    """

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self.manifests = manifests
        self._keys: dict[str, str] = {}

    def key(self, artifact_id: str) -> str:
        """The same for artifacts whose recipes, and those of all ancestors, differ in nothing but `seed`."""
        if artifact_id not in self._keys:
            self._keys[artifact_id] = self._find(artifact_id)
        return self._keys[artifact_id]

    def _find(self, artifact_id: str) -> str:
        manifest = self.manifests.get(artifact_id)
        if manifest is None:
            return artifact_id.rsplit("-", 1)[-1]  # its name decides nothing
        recipe = {name: self._strip(value) for name, value in manifest.recipe.items() if name != "seed"}
        parents = [self.key(parent) for parent in manifest.parents]
        return content_hash([manifest.kind, manifest.schema, recipe, parents])

    def _strip(self, value: Any) -> Any:
        """Ids inside of recipes, as the model's in that of a tokenised dataset, hang on its seed."""
        if isinstance(value, dict):
            return {name: self._strip(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [self._strip(entry) for entry in value]
        return self.key(value) if isinstance(value, str) and value in self.manifests else value
