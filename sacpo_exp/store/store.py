"""Locate, lock, write whole, verify, list and prune artifacts."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sacpo_exp.errors import ConfigError, DataError, MirrorError, StoreError
from sacpo_exp.store.identity import KINDS, SCHEMA_VERSION, ArtifactSpec, hash_of
from sacpo_exp.store.manifest import NAME, SCRATCH, Manifest, find_difference, make_manifest, sync, sync_tree
from sacpo_exp.store.mirror import Mirror

log = logging.getLogger(__name__)

PARTIAL = ".partial"
#: Folder of unfinished downloads; not the name of a kind.
FETCHED = ".fetched"
Builder = Callable[[Path], dict[str, Any]]


class Store:
    """`root/<kind>/<id>/` holds an artifact once it is whole; until then its files lie in `<id>.partial` beside it.

    Args:
        root: usually `outputs/store`; made when the first artifact is.
        mirror: to which finished artifacts are uploaded, and from which missing ones are downloaded.

    Attributes:
        made: ids of the artifacts that were made through this object rather than reused.
    """

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        self.root = root
        self.mirror = mirror
        self.made: set[str] = set()
        self._verified: set[Path] = set()
        self._announced: set[str] = set()
        self._shared: set[str] = set()

    def path(self, spec: ArtifactSpec) -> Path:
        """Return the artifact's folder, under whatever slug it was made, also before it is made."""
        return self._find(spec.kind, spec.id)

    def _find(self, kind: str, artifact_id: str) -> Path:
        """Return the folder of the artifact with this hash: finished, else unfinished, else a new one."""
        folder, own = self.root / kind, hash_of(artifact_id)
        if (folder / artifact_id / NAME).is_file():
            return folder / artifact_id
        folders = [path.parent for path in folder.glob(f"*-{own}/{NAME}")]
        folders += [path.with_name(path.name.removesuffix(PARTIAL)) for path in folder.glob(f"*-{own}{PARTIAL}")]
        return folders[0] if folders else folder / artifact_id

    def has(self, spec: ArtifactSpec) -> bool:
        """Return whether the artifact is here; the mirror is not asked."""
        return (self.path(spec) / NAME).is_file()

    def is_mirrored(self, spec: ArtifactSpec) -> bool:
        """Return whether the mirror has the artifact; False, with a warning, if it can't be asked.

        Raises:
            StoreError: the mirror's copy is damaged.
        """
        if self.mirror is None or self.mirror.is_down:
            return False
        try:
            return self.mirror.find(spec.kind, spec.id) is not None
        except MirrorError as error:
            self.mirror.lose(error)
            return False

    def is_available(self, spec: ArtifactSpec) -> bool:
        """Return whether the artifact is here or in the mirror."""
        return self.has(spec) or self.is_mirrored(spec)

    def manifest(self, spec: ArtifactSpec) -> Manifest:
        return Manifest.read(self.path(spec))

    def open(self, spec: ArtifactSpec) -> Path:
        """Return the path of a finished artifact after checking it; it is downloaded first if it is not here."""
        if self.mirror is not None and not self.has(spec):
            self.pull(spec.kind, spec.id)
        self.check(self.path(spec))
        return self.path(spec)

    def check(self, folder: Path) -> None:
        """Raise StoreError if a file of the finished artifact in `folder` differs from what was written.

        All files are read, so this is done once per artifact, and not for what was made or downloaded just now.
        """
        if folder in self._verified and (folder / NAME).is_file():
            return
        for problem in find_damage(folder, folder.name if folder.parent.parent == self.root else None):
            raise StoreError(
                f"{folder} is damaged: {problem}. Remove it and make it again: "
                f"`sacpo store prune --damaged --outputs {self.root.parent}`, then the same command."
            )
        self._verified.add(folder)

    def get_or_build(self, spec: ArtifactSpec, build: Builder) -> Path:
        """Return the artifact's path, checked; if it is missing, `build(folder)` makes its files and returns metrics.

        Of two processes that want the same artifact at the same moment, one builds and the other waits and reuses. The
        files of a killed build in `folder/checkpoints` are kept for the next one, which may resume from them, and are
        removed when the artifact is whole. Its other files are removed before.
        """
        if not self.has(spec):
            with self._locked(spec.kind, spec.id):
                if not (self.has(spec) or self._fetch_if_reached(spec)):
                    spec = replace(spec, slug=self.path(spec).name.rsplit("-", 1)[0])  # that of a killed build
                    self._build(spec, build)
        self.check(self.path(spec))
        if spec.id not in self._announced:  # one line per artifact and command
            self._announced.add(spec.id)
            log.info("reused   %s", self.path(spec))
        self.share(spec)
        return self.path(spec)

    def _build(self, spec: ArtifactSpec, build: Builder) -> None:
        final = self.path(spec)
        partial = final.with_name(final.name + PARTIAL)
        (partial / SCRATCH).mkdir(parents=True, exist_ok=True)
        start, created = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
        if any(find_damage(partial)):  # else an earlier build was killed after it had written the manifest
            for path in partial.iterdir():
                if path.name != SCRATCH:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            try:
                metrics = build(partial)
            except (ConfigError, DataError):  # what a user has to change first, so nothing will resume from here
                if not any((partial / SCRATCH).iterdir()):
                    shutil.rmtree(partial)
                raise
            sync_tree(partial)  # before the manifest, whose presence means that everything is there
            make_manifest(spec, partial, metrics, created, time.monotonic() - start).write(partial)
        shutil.rmtree(partial / SCRATCH)
        _replace_folder(partial, final)
        self._verified.add(final)
        self._announced.add(spec.id)
        self.made.add(spec.id)
        log.info("finished %s in %.0f s", final, time.monotonic() - start)

    def fetch(self, kind: str, artifact_id: str) -> bool:
        """Download an artifact that is not here; return False if the mirror lacks it. The caller holds its lock.

        Raises:
            MirrorError: the mirror can't be reached, or the download was cut; the next one continues.
            StoreError: the mirror's copy is not what was uploaded, and is not used.
        """
        if self.mirror is None or self.mirror.is_down:
            return False
        start = time.monotonic()
        folder = self.root / FETCHED / kind / artifact_id
        if (manifest := self.mirror.fetch(kind, artifact_id, folder)) is None:
            return False
        final = self.root / kind / manifest.id
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_tree(folder)
        shutil.rmtree(final.with_name(final.name + PARTIAL), ignore_errors=True)
        _replace_folder(folder, final)
        self._verified.add(final)
        self._announced.add(artifact_id)
        self._shared.add(artifact_id)
        log.info("fetched  %s in %.0f s", final, time.monotonic() - start)
        return True

    def pull(self, kind: str, artifact_id: str) -> str:
        """Download an artifact unless it is here; return `is here`, `fetched`, or `unfinished` (in the mirror).

        Raises:
            MirrorError, StoreError: as `fetch`.
        """
        with self._locked(kind, artifact_id):
            if (self._find(kind, artifact_id) / NAME).is_file():
                return "is here"
            return "fetched" if self.fetch(kind, artifact_id) else "unfinished"

    def _fetch_if_reached(self, spec: ArtifactSpec) -> bool:
        """As `fetch`, but a mirror out of reach is only a warning, and the artifact is made here then."""
        try:
            return self.fetch(spec.kind, spec.id)
        except MirrorError as error:
            assert self.mirror is not None
            self.mirror.lose(error)
            return False

    def share(self, spec: ArtifactSpec) -> None:
        """Upload what the mirror lacks, once per command; a mirror out of reach is only a warning."""
        is_new = spec.id in self.made
        if self.mirror is None or spec.id in self._shared or (self.mirror.is_down and not is_new):
            return
        self._shared.add(spec.id)
        try:
            with self.lock("mirror-" + spec.kind, spec.id).acquire(timeout=0):
                self.push(self.path(spec))
        except Timeout:
            return  # another process is uploading it
        except MirrorError as error:
            self.mirror.lose(error)

    def push(self, folder: Path) -> bool:
        """Upload a finished artifact; return False if the mirror has it.

        Raises:
            MirrorError: the mirror can't be reached, or the upload was cut; the next one continues.
            StoreError: a file here, or the manifest there, is damaged.
        """
        if self.mirror is None:
            return False
        start = time.monotonic()
        upload = self.mirror.upload(folder)
        self.mirror.is_down = False
        if upload is None:
            return False
        log.info("uploaded %s: %s, in %.0f s", folder.name, upload, time.monotonic() - start)
        return True

    def folders(self) -> list[Path]:
        """Return the folders of all finished artifacts, by kind and id; also damaged ones and ones without manifest."""
        paths = [path for kind in KINDS for path in self.root.glob(f"{kind}/*")]
        return sorted(path for path in paths if path.suffix != PARTIAL and path.is_dir())

    def manifests(self, all_schemas: bool = False) -> Iterator[tuple[Path, Manifest]]:
        """Yield (folder, manifest) of all finished artifacts, by kind and id, without those whose manifest is damaged.

        Those of another schema, which no command reads, are left out unless `all_schemas` is true. Manifests name other
        artifacts by the ids that these have here, whatever their slugs were at the time.
        """
        folders = self.folders()
        ids = {hash_of(folder.name): folder.name for folder in reversed(folders)}
        for folder in folders:
            try:
                manifest = Manifest.read(folder).with_ids(ids)
            except StoreError as error:
                log.warning("%s; see `sacpo store verify`", error)
                continue
            if all_schemas or manifest.schema == SCHEMA_VERSION:
                yield folder, manifest

    def partials(self) -> list[Path]:
        """Return the folders of builds and downloads that are under way or were killed."""
        paths = [*self.root.glob(f"*/*{PARTIAL}"), *self.root.glob(f"{FETCHED}/*/*")]
        return sorted(path for path in paths if path.is_dir())

    def is_building(self, partial: Path) -> bool:
        """Return whether a living process holds the lock of this unfinished artifact."""
        try:
            with self.lock_of(partial).acquire(timeout=0):
                return False
        except Timeout:
            return True

    @contextmanager
    def _locked(self, kind: str, artifact_id: str) -> Iterator[None]:
        """Hold the lock of an artifact; the operating system frees it when the process dies."""
        lock = self.lock(kind, artifact_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting  for another process that makes or removes %s", artifact_id)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def lock(self, kind: str, artifact_id: str) -> FileLock:
        """Return the lock under which an artifact is made, downloaded, removed or uploaded."""
        path = self.root / ".locks" / f"{kind}-{hash_of(artifact_id)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def lock_of(self, folder: Path) -> FileLock:
        """Return the lock of the finished or unfinished artifact in a folder of the store."""
        return self.lock(folder.parent.name, folder.name.removesuffix(PARTIAL))


def find_damage(folder: Path, artifact_id: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a finished artifact, which should have this id, one phrase each."""
    try:
        manifest = Manifest.read(folder)
    except StoreError as error:
        yield str(error).removeprefix(f"{folder}/")
        return
    if artifact_id not in (None, manifest.id):
        yield f"{NAME} is that of {manifest.id}"
    for name, entry in manifest.files.items():
        if problem := find_difference(folder / name, entry):
            yield f"{name} {problem}"


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


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process may be working there
            size += path.stat().st_size if path.is_file() else 0
    return size
