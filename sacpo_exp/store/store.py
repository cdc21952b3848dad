"""Locate, lock, write whole, verify, list and prune artifacts."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sacpo_exp.errors import MirrorError, StoreError
from sacpo_exp.store.durable import sync, sync_tree
from sacpo_exp.store.identity import ArtifactSpec
from sacpo_exp.store.manifest import NAME, SCRATCH, Manifest, hash_file, make_manifest
from sacpo_exp.store.mirror import Mirror

log = logging.getLogger(__name__)

PARTIAL = ".partial"
#: Folder of downloads that are under way; named so that none is taken for a kind.
FETCHED = ".fetched"
Builder = Callable[[Path], dict[str, Any]]


class Store:
    """`root/<kind>/<id>/` holds an artifact once it is whole; until then its files lie in `<id>.partial` beside it.

    Args:
        root: usually `outputs/store`; made when the first artifact is.
        mirror: where finished artifacts are put too, and missing ones looked for.

    Attributes:
        made: ids of the artifacts that were made through this object, not found.
    """

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        self.root = root
        self.mirror = mirror
        self.made: set[str] = set()
        self._announced: set[str] = set()
        self._refused: set[str] = set()
        self._shared: set[str] = set()

    def path(self, spec: ArtifactSpec) -> Path:
        """Where the artifact lies, or will lie."""
        return self.root / spec.kind / spec.id

    def has(self, spec: ArtifactSpec) -> bool:
        """Whether the artifact is here; the mirror is not asked."""
        return (self.path(spec) / NAME).is_file()

    def is_mirrored(self, spec: ArtifactSpec) -> bool:
        """Whether the mirror has the artifact; False where it can't be asked or what it has was refused."""
        if self.mirror is None or self.mirror.is_down or spec.id in self._refused:
            return False
        try:
            return self.mirror.find(spec.kind, spec.id) is not None
        except StoreError as error:
            self._give_up(spec.id, error)
            return False

    def is_available(self, spec: ArtifactSpec) -> bool:
        """Whether the artifact need not be made: it is here or in the mirror."""
        return self.has(spec) or self.is_mirrored(spec)

    def manifest(self, spec: ArtifactSpec) -> Manifest:
        return Manifest.read(self.path(spec))

    def open(self, spec: ArtifactSpec) -> Path:
        """Path of a finished artifact whose files have been checked against their hashes; downloaded if need be."""
        if self.mirror is not None and not self.has(spec):
            with self._locked(spec.kind, spec.id):
                if not self.has(spec):
                    self.fetch(spec.kind, spec.id)
        self.check(self.path(spec))
        return self.path(spec)

    def check(self, folder: Path) -> None:
        """Raises StoreError if a file of the finished artifact in `folder` differs from what was written."""
        for problem in find_damage(folder):
            raise StoreError(
                f"{folder} is damaged: {problem}. Remove it and make it again: "
                f"`python -m sacpo_exp.store prune --damaged --outputs {self.root.parent}`, then the same command."
            )

    def get_or_build(self, spec: ArtifactSpec, build: Builder) -> Path:
        """The artifact's path; `build(folder)` makes its files and returns its metrics if it is not there yet.

        Two processes that want the same artifact at the same moment: one builds, the other waits and reuses. What a
        killed build left in `folder/checkpoints` is handed to the next one, which may go on from it; it is removed when
        the artifact is whole. Other files that it left are removed before.
        """
        is_new = False
        if not self.has(spec):
            with self._locked(spec.kind, spec.id):
                if not (self.has(spec) or self._find_in_mirror(spec)):
                    self._build(spec, build)
                    is_new = True
        self._announce_reuse(spec)
        self.share(spec, is_new)
        return self.path(spec)

    def _build(self, spec: ArtifactSpec, build: Builder) -> None:
        final = self.path(spec)
        partial = final.with_name(final.name + PARTIAL)
        (partial / SCRATCH).mkdir(parents=True, exist_ok=True)
        start, created = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
        if any(find_damage(partial)):  # else an earlier build was killed after its last file, the manifest
            _remove(path for path in partial.iterdir() if path.name != SCRATCH)
            metrics = build(partial)
            sync_tree(partial)  # before the manifest, which says that everything is there
            make_manifest(spec, partial, metrics, created, time.monotonic() - start).write(partial)
        _remove([partial / SCRATCH])
        _replace_folder(partial, final)
        self._announced.add(spec.id)
        self.made.add(spec.id)
        log.info("finished %s in %.0f s", final, time.monotonic() - start)

    def fetch(self, kind: str, artifact_id: str) -> bool:
        """Download an artifact that is not here; False if there is no mirror or it has not got it. Under its lock.

        Raises:
            MirrorError: the mirror can't be reached, or the download was cut; the next one goes on.
            StoreError: what the mirror has is not what was uploaded, and is not used.
        """
        if self.mirror is None or self.mirror.is_down:
            return False
        start, final = time.monotonic(), self.root / kind / artifact_id
        folder = self.root / FETCHED / kind / artifact_id
        try:
            if self.mirror.fetch(kind, artifact_id, folder) is None:
                return False
        except MirrorError:
            raise
        except StoreError:
            self._refused.add(artifact_id)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_tree(folder)
        shutil.rmtree(final.with_name(final.name + PARTIAL), ignore_errors=True)  # no one will finish it now
        _replace_folder(folder, final)
        self._announced.add(artifact_id)
        self._shared.add(artifact_id)
        log.info("fetched  %s in %.0f s", final, time.monotonic() - start)
        return True

    def pull(self, kind: str, artifact_id: str) -> str:
        """What became of an artifact that is to be here: `is here`, `fetched`, or `unfinished` in the mirror.

        Raises:
            MirrorError, StoreError: as `fetch`.
        """
        with self._locked(kind, artifact_id):
            if (self.root / kind / artifact_id / NAME).is_file():
                return "is here"
            return "fetched" if self.fetch(kind, artifact_id) else "unfinished"

    def _find_in_mirror(self, spec: ArtifactSpec) -> bool:
        """As `fetch`, but whatever is wrong is told in one line, and the artifact is made here then."""
        try:
            return spec.id not in self._refused and self.fetch(spec.kind, spec.id)
        except StoreError as error:
            self._give_up(spec.id, error)
            return False

    def share(self, spec: ArtifactSpec, is_new: bool = False) -> None:
        """Upload what the mirror has not got, once per command; trouble is told in one line and stops nothing."""
        if self.mirror is None or spec.id in self._shared or (self.mirror.is_down and not is_new):
            return
        self._shared.add(spec.id)
        try:
            with self.lock("mirror-" + spec.kind, spec.id).acquire(timeout=0):
                self.push(self.path(spec))
        except Timeout:
            return  # another process is uploading it
        except StoreError as error:
            self._give_up(spec.id, error)

    def push(self, folder: Path, again: bool = False) -> bool:
        """Upload a finished artifact; False if the mirror has it. One that it was seen to have damaged is replaced.

        Raises:
            MirrorError: the mirror can't be reached, or the upload was cut; the next one goes on.
            StoreError: a file here is damaged.
        """
        if self.mirror is None:
            return False
        start = time.monotonic()
        upload = self.mirror.upload(folder, again or folder.name in self._refused)
        self.mirror.is_down = False
        if upload is None:
            return False
        self._refused.discard(folder.name)
        text = f", {upload.there} were there" if upload.there else ""
        log.info(
            "uploaded %s: %d files, %.1f MB%s, in %.0f s",
            folder.name,
            upload.files,
            upload.size / 1e6,
            text,
            time.monotonic() - start,
        )
        return True

    def _give_up(self, artifact_id: str, error: StoreError) -> None:
        """Say once what is wrong with the mirror, or with what it has."""
        if self.mirror is not None and isinstance(error, MirrorError):
            self.mirror.lose(error)
        else:
            self._refused.add(artifact_id)
            log.warning("mirror   %s", error)

    def folders(self) -> list[Path]:
        """Folders of all finished artifacts, by kind and id."""
        return sorted(path.parent for path in self.root.glob(f"*/*/{NAME}") if path.parent.suffix != PARTIAL)

    def manifests(self) -> Iterator[tuple[Path, Manifest]]:
        """(folder, manifest) of all finished artifacts, by kind and id; one with a damaged manifest is passed over."""
        for folder in self.folders():
            try:
                yield folder, Manifest.read(folder)
            except StoreError as error:
                log.warning("%s; see `python -m sacpo_exp.store verify`", error)

    def partials(self) -> list[Path]:
        """Folders of builds and downloads that are under way or were killed."""
        found = [*self.root.glob(f"*/*{PARTIAL}"), *self.root.glob(f"{FETCHED}/*/*")]
        return sorted(path for path in found if path.is_dir())

    def is_building(self, partial: Path) -> bool:
        """Whether a living process holds the lock of this unfinished artifact."""
        lock = self.lock(partial.parent.name, partial.name.removesuffix(PARTIAL))
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _announce_reuse(self, spec: ArtifactSpec) -> None:
        """One line per artifact and command, however often it is used."""
        if spec.id not in self._announced:
            self._announced.add(spec.id)
            log.info("reused   %s", self.path(spec))

    @contextmanager
    def _locked(self, kind: str, artifact_id: str) -> Iterator[None]:
        """Held while an artifact is made; the operating system frees it when the process dies."""
        lock = self.lock(kind, artifact_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting  for another process that makes %s", artifact_id)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def lock(self, kind: str, artifact_id: str) -> FileLock:
        """The lock under which an artifact is made, downloaded or uploaded."""
        path = self.root / ".locks" / f"{kind}-{artifact_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)


def find_damage(folder: Path) -> Iterator[str]:
    """What is wrong with the files of a finished artifact, one phrase each."""
    try:
        files = Manifest.read(folder).files
    except StoreError:
        yield f"{NAME} is missing or can't be read"
        return
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != entry["size"]:
            yield f"{name} has {path.stat().st_size} bytes instead of {entry['size']}"
        elif hash_file(path) != entry["sha256"]:
            yield f"{name} has another content than was written"


def _replace_folder(partial: Path, final: Path) -> None:
    """Rename files that are on the disk, so that a power cut leaves the old state or the new; they are read-only then.

    Folders stay writable: removing an artifact needs no other rights than before.
    """
    for path in partial.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    if final.exists():  # a folder without a manifest: never a finished artifact
        shutil.rmtree(final)
    partial.rename(final)
    sync(final.parent)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
