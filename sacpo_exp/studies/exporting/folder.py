"""A policy as a plain Hugging Face folder: written whole or not at all, and over nothing that is not ours."""

import json
import logging
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from sacpo_exp.errors import ConfigError
from sacpo_exp.store import hash_of
from sacpo_exp.store.store import PARTIAL
from sacpo_exp.studies.exporting.ancestry import Ancestry

log = logging.getLogger(__name__)

CARD: Final = "README.md"
#: Says which policy a folder holds, how it was made, and what belongs to the export.
RECIPE: Final = "recipe.json"
WEIGHTS: Final = "*.safetensors"
#: What transformers reads; the store's own files stay behind, and so does an adapter, which is merged already.
TAKEN: Final = (WEIGHTS, "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*", "*.jinja",
                "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")  # fmt: skip


def check_target(folder: Path, policy_id: str) -> None:
    """Raises ConfigError if `folder` holds anything but an earlier export of this policy, as it was written."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    problem = _find_obstacle(folder, policy_id)
    if problem:
        raise ConfigError(f"{folder} {problem}; it stays as it is. Try: folder=DIR")


def _find_obstacle(folder: Path, policy_id: str) -> str | None:
    try:
        written = json.loads((folder / RECIPE).read_text("utf-8"))
        owner, files = written["policy_id"], written["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "is no export"
    if hash_of(owner) != hash_of(policy_id):
        return f"holds another policy, {owner}"
    there = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != RECIPE}
    changed = sorted(name for name in {*there, *files} if there.get(name) != files.get(name))
    return f"has been changed since ({changed[0]})" if changed else None


def write_folder(source: Path, folder: Path, ancestry: Ancestry, card: str) -> None:
    """Write the policy in `source` to `folder`, in place of an earlier export of it.

    Raises:
        ConfigError: something else is there, or `source` has no safetensors weights.
    """
    check_target(folder, ancestry.policy.id)
    names = _list_files(source)
    partial = folder.with_name(f".{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, partial / name)
    (partial / CARD).write_text(card, "utf-8")
    kept = ("created", "versions", "commit")
    record = {
        "policy_id": ancestry.policy.id,
        "lineage": ancestry.policy.to_dict(),
        "made": {name: {key: getattr(entry, key) for key in kept} for name, entry in ancestry.made.items()},
        "files": {path.name: path.stat().st_size for path in partial.iterdir()},
    }
    (partial / RECIPE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _put(partial, folder)
    log.info("exported %s", folder)


def _list_files(source: Path) -> Sequence[str]:
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    taken = [name for name in names if any(fnmatch(name, pattern) for pattern in TAKEN)]
    if not any(fnmatch(name, WEIGHTS) for name in taken):
        raise ConfigError(f"{source} has no weights in the form of safetensors, and no other form is exported.")
    return taken


def _put(partial: Path, folder: Path) -> None:
    """Rename; an earlier export moves aside first, so that at every moment one of the two is whole."""
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    partial.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
