"""`sacpo store list|show|verify|prune|push|pull|sweep`: look after stored artifacts, and watch a sweep."""

import argparse
import json
import logging
import shutil
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import Timeout

from sacpo_exp.cluster.status import format_sweep, newest_sweep, read_sweep
from sacpo_exp.config.environment import load_dotenv
from sacpo_exp.config.loading import sweep_dir
from sacpo_exp.errors import ConfigError, StoreError, run_reporting_errors
from sacpo_exp.store.identity import SCHEMA_VERSION
from sacpo_exp.store.manifest import NAME, Manifest
from sacpo_exp.store.mirror import open_mirror
from sacpo_exp.store.store import Store, find_damage, folder_size


def main() -> None:
    parser = argparse.ArgumentParser(prog="sacpo store", description="Look after stored artifacts.")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs (default: outputs)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="one line per artifact")
    show = commands.add_parser("show", help="the manifest of one artifact")
    show.add_argument("id", help="its id, or enough of it to be unique")
    commands.add_parser("verify", help="check every file against its hash; exit code 1 if one differs")
    sweep = commands.add_parser("sweep", help="how far the jobs of a multirun have come, also while it runs")
    sweep.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="of the multirun (default: the newest)")
    prune = commands.add_parser("prune", help="remove artifacts that nothing descends from; asks first")
    prune.add_argument("ids", nargs="*", metavar="ID", help="which (default: what killed builds left)")
    prune.add_argument("--damaged", action="store_true", help="what no command can read: damaged, or of older versions")
    prune.add_argument("--yes", action="store_true", help="do not ask")
    push = commands.add_parser("push", help="upload what the mirror lacks, so that other machines find it")
    pull = commands.add_parser("pull", help="download what is in the mirror and not here")
    pull.add_argument("--kind", action="append", default=[], help="stage, judgments, … (default: all)")
    for command in (push, pull):
        command.add_argument("ids", nargs="*", metavar="ID", help="which, or enough of their ids (default: all)")
        command.add_argument("--mirror", required=True, metavar="ADDRESS", help="as store.mirror")
    for command in commands.choices.values():  # so that it may stand on either side of the command
        command.add_argument("--outputs", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run_reporting_errors(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Carry out one parsed command."""
    store = Store(arguments.outputs / "store")
    if arguments.command == "list":
        list_artifacts(store)
    elif arguments.command == "show":
        print(json.dumps(asdict(find_artifact(store, arguments.id)[1]), indent=1, sort_keys=True))
    elif arguments.command == "verify":
        verify(store)
    elif arguments.command == "sweep":
        folder = arguments.folder or newest_sweep(Path(sweep_dir(str(arguments.outputs))))
        print("\n".join(format_sweep(folder, read_sweep(folder))))
    elif arguments.command == "prune":
        prune(store, choose_leftovers(store, arguments), arguments.damaged, arguments.yes)
    else:
        transfer(store, arguments)


def list_artifacts(store: Store) -> None:
    """Print kind, size, age and id of every artifact, then what is unfinished."""
    total = 0
    for _, manifest in store.manifests(all_schemas=True):
        total += manifest.size
        mark = "" if manifest.schema == SCHEMA_VERSION else "  (of an older version; `prune --damaged` removes it)"
        print(f"{manifest.kind:<11} {manifest.size / 1e6:>9.1f} MB  {manifest.created[:16]}  {manifest.id}{mark}")
    for partial in store.partials():
        state = "being made" if store.is_building(partial) else "unfinished; the same command goes on with it"
        print(f"{partial.parent.name:<11} {folder_size(partial) / 1e6:>9.1f} MB  {state}  {partial.name}")
    print(f"{total / 1e6:.1f} MB in {store.root}")


def find_artifact(store: Store, wanted: str) -> tuple[Path, Manifest]:
    """Return the one artifact whose id contains `wanted`."""
    entries = [entry for entry in store.manifests(all_schemas=True) if wanted in entry[1].id]
    exact = [entry for entry in entries if entry[1].id == wanted] or entries
    if len(exact) != 1:
        raise ConfigError(f"`{wanted}` fits {len(exact)} artifacts in {store.root}. Try: sacpo store list")
    return exact[0]


def verify(store: Store) -> None:
    """Check all files; print what differs."""
    damaged = 0
    for folder in store.folders():
        problems = list(find_damage(folder, folder.name))
        damaged += bool(problems)
        state = "damaged" if problems else "ok"
        print(f"{state:<8} {folder.name}" + "".join(f"\n         {text}" for text in problems))
    if damaged:
        raise StoreError(
            f"{damaged} artifacts are damaged. Try: sacpo store prune --damaged --outputs {store.root.parent}"
        )


def choose_leftovers(store: Store, arguments: argparse.Namespace) -> list[Path]:
    """Return the folders to prune: the named artifacts, those that can't be read, or what killed builds left.

    A damaged parent is removed too: its children stay valid, and the same recipe makes it again.
    """
    if arguments.ids and arguments.damaged:
        raise ConfigError("prune takes either ids or --damaged. Try: sacpo store prune --damaged")
    if arguments.damaged:
        return [folder for folder in store.folders() if not is_readable(folder)]
    folders = [find_artifact(store, wanted)[0] for wanted in arguments.ids]
    kept = {parent for _, manifest in store.manifests(all_schemas=True) for parent in manifest.parents}
    if parents := [folder.name for folder in folders if folder.name in kept]:
        raise ConfigError([f"`{name}` stays: other artifacts descend from it." for name in parents])
    return folders or store.partials()


def is_readable(folder: Path) -> bool:
    """Return whether an artifact is whole and of the present version."""
    return not any(find_damage(folder, folder.name)) and Manifest.read(folder).schema == SCHEMA_VERSION


def prune(store: Store, folders: list[Path], only_damaged: bool, is_sure: bool) -> None:
    """Remove folders after asking, except those that another process is working on, or has replaced meanwhile."""
    with ExitStack() as held:  # so that nothing shown in the question is made or downloaded before the answer
        free = []
        for folder in folders:
            with suppress(Timeout):
                held.enter_context(store.lock_of(folder).acquire(timeout=0))
                if folder.is_dir() and not (only_damaged and is_readable(folder)):
                    free.append(folder)
        if not free:
            print("nothing to remove")
            return
        print("\n".join(f"{folder_size(folder) / 1e6:>9.1f} MB  {folder}" for folder in free))
        if not is_sure and not has_consent(f"Remove these {len(free)}? [y/N] "):
            print("nothing removed")
            return
        for folder in free:
            (folder / NAME).unlink(missing_ok=True)  # a kill from here on leaves no damaged artifact
            shutil.rmtree(folder)
    print(f"removed {len(free)}")


def transfer(store: Store, arguments: argparse.Namespace) -> None:
    """Upload (push) or download (pull) the chosen artifacts."""
    load_dotenv()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ids, mirror = arguments.ids, open_mirror(arguments.mirror)
    mirror.is_down = False  # so that the command ends with the error
    store.mirror = mirror
    if arguments.command == "push":
        for folder in [find_artifact(store, wanted)[0] for wanted in ids] or [entry[0] for entry in store.manifests()]:
            state = "uploaded" if store.push(folder) else "is there"
            print(f"{state:<9}{folder.parent.name:<11} {folder.name}")
        return
    there = [entry for entry in mirror.list() if not arguments.kind or entry[0] in arguments.kind]
    if missing := [wanted for wanted in ids if not any(wanted in artifact_id for _, artifact_id in there)]:
        raise ConfigError([f"`{wanted}` fits nothing in {mirror.url}." for wanted in missing])
    for kind, artifact_id in there:
        if not ids or any(wanted in artifact_id for wanted in ids):
            print(f"{store.pull(kind, artifact_id):<9}{kind:<11} {artifact_id}")


def has_consent(question: str) -> bool:
    """Return whether the user types yes; without a terminal the answer is no."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False
