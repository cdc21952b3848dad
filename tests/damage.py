"""Damage done to finished artifacts, whose files are read-only to all but root, and artifacts of an older version."""

from dataclasses import replace
from pathlib import Path

from sacpo_exp.store import ArtifactSpec, Store
from sacpo_exp.store.identity import SCHEMA_VERSION, recipe_hash
from sacpo_exp.store.manifest import make_manifest


def overwrite(path: Path, content: str | bytes) -> None:
    """Write another content into a file of a finished artifact."""
    path.chmod(0o644)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def leave_old(store: Store, *parents: str, kind: str = "stage") -> Path:
    """An artifact as the version before this one wrote it."""
    old = SCHEMA_VERSION - 1
    artifact_id = f"old-{recipe_hash(kind, {'lr': 3}, parents, old)}"
    folder = store.root / kind / artifact_id
    folder.mkdir(parents=True)
    (folder / "file").write_text("abc")
    manifest = make_manifest(ArtifactSpec(kind, "old", {"lr": 3}, parents, {}), folder, {}, "2026-11-01T00:00", 0.0)
    replace(manifest, id=artifact_id, schema=old).write(folder)
    return folder
