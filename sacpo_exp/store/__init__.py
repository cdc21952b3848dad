"""Artifacts on disk: named by their recipe, written whole or not at all, never made twice."""

from sacpo_exp.store.identity import ArtifactSpec, content_hash, hash_of
from sacpo_exp.store.manifest import Manifest
from sacpo_exp.store.store import Store

__all__ = ["ArtifactSpec", "Manifest", "Store", "content_hash", "hash_of"]
