"""A second place for artifacts, which several machines reach: what one has finished the others find.

`<address>/<kind>/<id>/manifest.json` makes an artifact visible there. Its files lie beside it in a folder that is named
by the hash of all their hashes, so that an upload that was cut is recognised by the next one, and two machines that
upload an artifact at the same moment (which rounded differently, perhaps) never mix their files.
"""

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sacpo_exp.config.environment import check_mirror
from sacpo_exp.errors import ConfigError, MirrorError, StoreError
from sacpo_exp.store.identity import KINDS, content_hash, hash_of, is_id
from sacpo_exp.store.manifest import NAME, Manifest, find_difference
from sacpo_exp.store.remote import Remote

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """What one upload sent, in files and bytes; `there` files had come with an earlier one that was cut."""

    files: int
    size: int
    there: int


class Mirror:
    """Artifacts in a remote place.

    Attributes:
        is_down: whether it was out of reach when last asked; nothing is expected from it then, but uploads are tried.
    """

    def __init__(self, remote: Remote) -> None:
        self.url = remote.url
        self.is_down = False
        self._remote = remote
        self._listed: dict[str, dict[str, str]] = {}  # by kind and hash

    def lose(self, error: MirrorError) -> None:
        """From now on it is out of reach, which is told in one line however many artifacts are made meanwhile."""
        if not self.is_down:
            log.warning("mirror   %s; what is made stays here, `sacpo store push` sends it", error)
        self.is_down = True

    def find(self, kind: str, artifact_id: str) -> Manifest | None:
        """The manifest of an artifact that is there whole, under this slug or another one.

        Raises:
            MirrorError: no answer.
            StoreError: the manifest was damaged, or belongs to something else.
        """
        place = f"{kind}/{artifact_id}/{NAME}"
        text = self._remote.read(place)
        if text is None and (other := self._find_namesake(kind, artifact_id)):
            return self.find(kind, other)
        if text is None:
            return None
        manifest = Manifest.parse(text, f"{self.url}: {place}")
        if (manifest.kind, manifest.id) != (kind, artifact_id):
            raise StoreError(f"{self.url}: {place} is refused: it describes something else")
        return manifest

    def _find_namesake(self, kind: str, artifact_id: str) -> str | None:
        """The id under which the same artifact was there when this process first listed its kind."""
        if kind not in self._listed:
            self._listed[kind] = {hash_of(name): name for name in self._remote.names(kind)}
        other = self._listed[kind].get(hash_of(artifact_id))
        return other if other != artifact_id else None

    def fetch(self, kind: str, artifact_id: str, folder: Path) -> Manifest | None:
        """Download an artifact into `folder`, every file checked by its hash; None if the mirror has not got it.

        What a download that was cut has left in the folder is used.

        Raises:
            MirrorError: no answer, or cut on the way.
            StoreError: a file is not what was uploaded.
        """
        manifest = self.find(kind, artifact_id)
        if manifest is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.rglob("*"):  # perhaps of another machine's upload
            if path.is_file() and path.relative_to(folder).as_posix() not in manifest.files:
                path.unlink()
        for name, entry in manifest.files.items():
            target = folder / name
            if not find_difference(target, entry):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            is_there = self._remote.get(f"{files_folder(kind, manifest)}/{name}", target)
            if problem := find_difference(target, entry) if is_there else "is missing":
                raise StoreError(f"{self.url}: {kind}/{artifact_id} is refused: {name} {problem}")
        manifest.write(folder)
        return manifest

    def upload(self, folder: Path, again: bool = False) -> Upload | None:
        """Upload a finished artifact: its files, then the manifest. None if it is there; `again` sends all the same.

        A file there is skipped if its size is right: it lies in a folder named by its hash, where it was hashed before
        it was sent, and appears whole or not at all.

        Raises:
            MirrorError: no answer, or cut on the way; the next upload goes on.
            StoreError: a file here is damaged.
        """
        manifest, kind = Manifest.read(folder), folder.parent.name
        if not again and self.find(kind, manifest.id) is not None:
            return None
        place = files_folder(kind, manifest)
        there = {} if again else self._remote.sizes(place)
        sent = {name: entry for name, entry in manifest.files.items() if there.get(name) != entry["size"]}
        for name, entry in sent.items():
            if problem := find_difference(folder / name, entry):
                raise StoreError(f"{folder} is damaged: {name} {problem}; it is not uploaded")
            self._remote.put(folder / name, f"{place}/{name}")
        self._remote.put(folder / NAME, f"{kind}/{manifest.id}/{NAME}")
        return Upload(len(sent), sum(entry["size"] for entry in sent.values()), len(manifest.files) - len(sent))

    def list(self) -> Iterator[tuple[str, str]]:
        """(kind, id) of what lies there, whole or not; a name that is no id would be a path to somewhere else."""
        for kind in sorted(KINDS):
            yield from ((kind, name) for name in self._remote.names(kind) if is_id(name))


def files_folder(kind: str, manifest: Manifest) -> str:
    """Where the mirror has an artifact's files."""
    return f"{kind}/{manifest.id}/files-{content_hash(manifest.files)[:16]}"


@functools.cache
def open_mirror(url: str) -> Mirror:
    """The mirror at an address, after one question to it; out of reach it is opened all the same, with a warning.

    Raises:
        ConfigError: the address, what is installed, the bucket or the credentials are wrong.
    """
    if problems := list(check_mirror(url)):
        raise ConfigError(problems)
    for library in ("aiobotocore", "botocore", "s3fs"):
        logging.getLogger(library).setLevel(logging.WARNING)  # or each start says where it found its credentials
    remote = Remote(url)
    mirror = Mirror(remote)
    try:
        remote.check()
    except MirrorError as error:
        mirror.lose(error)
    return mirror
