"""Write policies as plain Hugging Face folders."""

import json
import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from sacpo_exp.config.models import ModelSource
from sacpo_exp.config.schema import ExportConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import Run
from sacpo_exp.store import hash_of
from sacpo_exp.store.store import PARTIAL
from sacpo_exp.studies.card import Ancestry

log = logging.getLogger(__name__)

#: Names the policy of a folder, how it was made, and which files belong to the export.
RECIPE: Final = "recipe.json"
WEIGHTS: Final = "*.safetensors"
#: Files that transformers reads; the store's own files and an adapter, which is merged already, are left out.
COPIED: Final = (WEIGHTS, "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*", "*.jinja",
                 "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")  # fmt: skip


def choose_targets(run: Run, config: ExportConfig) -> dict[str, Path]:
    """Return the folder of every chosen policy, by the policy's name.

    An untrained model on the hub or in a folder is left out.

    Raises:
        ConfigError: no policy is left, or a folder holds anything but an earlier, unchanged export of its policy.
    """
    is_elsewhere = config.model.source in (ModelSource.hub, ModelSource.path)
    chosen = run.plan.selected(config.policies)
    specs = {name: policy for name, policy in chosen.items() if not (policy.kind == "model" and is_elsewhere)}
    if not specs:
        raise ConfigError(
            f"`policies` must name a trained policy, but {next(iter(chosen))} is {config.model.path} as it is. "
            "Try: policies=final"
        )
    if len(specs) < len(chosen):
        log.info("left out the baseline, which is %s as it is", config.model.path)
    folder = Path(config.folder).expanduser() if config.folder else Path(config.paths.outputs) / "export"
    is_whole = config.folder is not None and len(specs) == 1
    targets = {name: folder if is_whole else folder / policy.id for name, policy in specs.items()}
    for name, target in targets.items():
        check_target(target, specs[name].id)
    return targets


def check_target(folder: Path, policy_id: str) -> None:
    """Raise ConfigError if `folder` holds anything but an unchanged export of this policy."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        recipe = json.loads((folder / RECIPE).read_text("utf-8"))
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != RECIPE}
        is_own = (hash_of(recipe["policy_id"]), recipe["files"]) == (hash_of(policy_id), sizes)
    except (OSError, ValueError, KeyError, TypeError):
        is_own = False
    if not is_own:
        raise ConfigError(
            f"{folder} holds something other than an unchanged export of {policy_id}, and stays as it is. "
            "Try: folder=DIR"
        )


def write_folder(source: Path, folder: Path, ancestry: Ancestry, card: str) -> None:
    """Copy the policy in `source` to `folder`, whole or not at all, in place of an earlier export of it.

    Raises:
        ConfigError: `folder` holds something else, or `source` has no safetensors weights.
    """
    check_target(folder, ancestry.policy.id)
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    names = [name for name in names if any(fnmatch(name, pattern) for pattern in COPIED)]
    if not any(fnmatch(name, WEIGHTS) for name in names):
        raise ConfigError(f"{source} has no weights in the form of safetensors, and no other form is exported.")
    partial, old = folder.with_name(f".{folder.name}{PARTIAL}"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, partial / name)
    (partial / "README.md").write_text(card, "utf-8")
    kept = ("created", "versions", "commit")
    record = {
        "policy_id": ancestry.policy.id,
        "lineage": ancestry.policy.to_dict(),
        "made": {name: {key: getattr(entry, key) for key in kept} for name, entry in ancestry.made.items()},
        "files": {path.name: path.stat().st_size for path in partial.iterdir()},
    }
    (partial / RECIPE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():  # moves aside first, so that one of the two is whole at every moment
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    log.info("exported %s", folder)
