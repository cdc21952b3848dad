"""Repositories of the Hugging Face hub: their commits, and their files in the local cache.

Files are read from folders of the cache. The hub's own library fills it under a lock per file, so several processes
download a file once, and a machine without network finds there what `sacpo prepare weights=true` has downloaded.
"""

import functools
import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path

from sacpo_exp.errors import ConfigError

log = logging.getLogger(__name__)

#: Small files that describe a model or a dataset; all repositories have the first.
DESCRIPTIONS = (".gitattributes", "config.json", "generation_config.json", "tokenizer_config.json", "*chat_template*")


def is_commit(revision: str) -> bool:
    """Return whether this is a whole commit hash, no branch, tag or abbreviation."""
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


@functools.lru_cache(maxsize=64)
def pin_revision(kind: str, path: str, revision: str | None, may_guess: bool = False) -> str:
    """Return the commit of a revision, so that an artifact's id always means the same content.

    A commit needs no network; a branch is looked up on the hub, or in the local cache.

    Args:
        kind: `dataset` or `model`.
        may_guess: return the branch, with a warning, if its commit can't be looked up; enough for a plan.

    Raises:
        ConfigError: the hub has no such repository or revision, or does not give access to it.
        OSError: the commit can't be looked up.
    """
    revision = revision or "main"
    if is_commit(revision):
        return revision
    if folder := find_description(kind, path, revision):
        return folder.name
    if not may_guess:
        raise OSError(f"the commit of `{revision}` is not known here.")
    log.warning("%s: the commit of `%s` can't be looked up now, so these ids are provisional", path, revision)
    return revision


@functools.lru_cache(maxsize=64)
def find_description(kind: str, path: str, revision: str | None) -> Path | None:
    """Return the folder of a commit in the local cache, named like the commit, with at least the `DESCRIPTIONS`.

    It is None if the hub can't be reached and the cache has no such commit.

    Raises:
        ConfigError: the hub has no such repository or revision, or does not give access to it.
    """
    from huggingface_hub import utils

    was_quiet = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        return _download(kind, path, revision, DESCRIPTIONS)
    except ConfigError:
        raise
    except Exception:  # from several libraries, not all of which raise OSError
        return None
    finally:
        if not was_quiet:
            utils.enable_progress_bars()


def list_files(kind: str, path: str, revision: str | None) -> dict[str, int]:
    """Return all files of a commit and their bytes, downloaded or not; none if they are not known."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    find_description(kind, path, revision)  # which puts the list into the cache
    try:
        return {file.path: file.size for file in get_cached_repo_tree(path, repo_type=kind, revision=revision)}
    except CachedRepoTreeNotFoundError:
        return {}


def download(kind: str, path: str, revision: str | None, is_wanted: Callable[[str], bool]) -> Path:
    """Return the folder of a commit in the local cache, after download of the wanted files that are not there.

    Raises:
        ConfigError: the hub has no such repository or revision, or does not give access to it.
        OSError: the hub can't be reached, and the cache does not have all files.
    """
    folder, wanted = find_description(kind, path, revision), filter(is_wanted, list_files(kind, path, revision))
    if folder is not None and not (missing := [name for name in wanted if not (folder / name).is_file()]):
        return folder
    return _download(kind, path, revision, missing if folder else DESCRIPTIONS)


def _download(kind: str, path: str, revision: str | None, patterns: Collection[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(path, repo_type=kind, revision=revision, allow_patterns=[*patterns]))
    except errors.GatedRepoError as error:
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{path}"
        raise ConfigError(
            f"the {kind} {path} is gated. Try: accept its conditions at {page}, then `hf auth login` or HF_TOKEN"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        hint = "check the name; for a private repository `hf auth login` or HF_TOKEN"
        raise ConfigError(f"the hub has no {kind} {path}, or it is private. Try: {hint}") from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"the {kind} {path} has no revision `{revision}` on the hub. Try: main") from error
