"""The mirror on a real S3 server and on a folder: nothing half visible, nothing damaged used, nothing lost."""

import json
import logging
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from processes import wait_until
from s3_server import S3Server

from sacpo_exp.errors import MirrorError, StoreError
from sacpo_exp.store import ArtifactSpec, Store, content_hash
from sacpo_exp.store.mirror import Mirror, Remote, open_mirror

SPAWN = multiprocessing.get_context("spawn")
SPEC = ArtifactSpec("stage", "first", {"lr": 1}, (), {})
SECOND = ArtifactSpec("stage", "second", {"lr": 2}, (SPEC.id,), {})
MANY = 40


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty mirror in a folder; on the S3 server for a test that is parametrised by `both`."""
    is_s3 = getattr(request, "param", "file") == "s3"
    return str(request.getfixturevalue("s3")) if is_s3 else (tmp_path / "mirror").as_uri()


both = pytest.mark.parametrize("address", ["s3", "file"], indirect=True)


@pytest.fixture
def machine(address: str, tmp_path: Path) -> Callable[[str], Store]:
    """`machine("a")` is a new process's view of the store of machine a, which has the mirror."""
    return lambda name: Store(tmp_path / name / "store", Mirror(Remote(address)))


def build(folder: Path) -> dict[str, Any]:
    (folder / "weights").write_text("abc")
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "empty").write_text("")
    return {"loss": 0.5}


def build_many(folder: Path) -> dict[str, Any]:
    for number in range(MANY):
        (folder / f"{number:02}").write_bytes(bytes([number]) * 500_000)
    return {}


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError(f"{folder} is built again")


def change(address: str, name: str, content: bytes) -> None:
    """Overwrite the one file of the mirror that is called so."""
    files, root = fsspec.core.url_to_fs(address)
    files.invalidate_cache()
    (path,) = [path for path in files.find(root) if path.endswith("/" + name)]
    files.pipe_file(path, content)


@both
def test_what_one_machine_makes_the_other_finds(machine: Callable[[str], Store]) -> None:
    made = machine("a")
    folder = made.get_or_build(SPEC, build)
    found = machine("b")
    assert (found.has(SPEC), found.is_mirrored(SPEC), found.is_available(SECOND)) == (False, True, False)
    assert found.get_or_build(SPEC, never) == found.open(SPEC) == found.path(SPEC)
    names = ["deep/empty", "manifest.json", "weights"]
    for name in names:
        assert (found.path(SPEC) / name).read_bytes() == (folder / name).read_bytes()
    there = found.path(SPEC)
    assert sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()) == names
    assert machine("c").open(SPEC).is_dir()  # what was never asked for by its recipe is fetched too


def test_an_artifact_is_found_there_under_another_slug(machine: Callable[[str], Store]) -> None:
    renamed = ArtifactSpec("stage", "renamed", SPEC.recipe, (), {})
    folder = machine("a").get_or_build(SPEC, build)
    found = machine("b")
    assert found.is_mirrored(renamed)
    assert found.get_or_build(renamed, never).name == folder.name
    assert found.manifest(renamed).id == SPEC.id
    machine("c").get_or_build(ArtifactSpec("stage", "third", {}, (renamed.id,), {}), build)
    assert machine("c").open(renamed).is_dir()


def test_nothing_is_transferred_twice(machine: Callable[[str], Store], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "a", "b", "b", "a"):
        machine(name).get_or_build(SPEC, build)
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["finished", "uploaded", "reused", "fetched", "reused", "reused"]


def run_many(root: Path, address: str, builder: Callable[[Path], dict[str, Any]]) -> None:
    """Run in a process of its own."""
    Store(root, Mirror(Remote(address))).get_or_build(SPEC, builder)


def kill_when(found: Callable[[], bool], *arguments: Any) -> None:
    """Start `run_many` in a process and kill it as soon as something is found."""
    process = SPAWN.Process(target=run_many, args=arguments)
    process.start()
    wait_until(found, pause=0.002)
    process.kill()
    process.join(60)


@both
def test_a_killed_upload_shows_nothing_and_is_finished_by_the_next_run(
    machine: Callable[[str], Store], address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    remote = Remote(address)
    kill_when(lambda: len(remote.sizes("stage")) > 3, tmp_path / "a" / "store", address, build_many)
    assert 2 <= len(remote.sizes("stage")) < MANY
    other = machine("b")
    assert not other.is_mirrored(SPEC)
    assert other.pull(SPEC.kind, SPEC.id) == "unfinished"
    machine("a").get_or_build(SPEC, never)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("uploaded")]
    there = int(re.findall(r"(\d+) were there", line)[0])
    assert line.startswith(f"uploaded {SPEC.id}: {MANY - there} files, ")
    assert 2 <= there < MANY
    machine("b").get_or_build(SPEC, never)
    assert not [name for name in remote.sizes("stage") if name.endswith(".part")]


@both
def test_a_killed_download_goes_on(machine: Callable[[str], Store], address: str, tmp_path: Path) -> None:
    machine("a").get_or_build(SPEC, build_many)
    root = tmp_path / "b" / "store"
    half = root / ".fetched" / SPEC.kind / SPEC.id
    kill_when(lambda: len(list(half.glob("*"))) > 2, root, address, never)
    store = machine("b")
    assert not store.has(SPEC)
    assert (list(store.manifests()), store.partials()) == ([], [half])
    first = half / "00"
    before = first.stat().st_mtime_ns
    assert (store.get_or_build(SPEC, never) / "00").stat().st_mtime_ns == before
    assert (store.open(SPEC), store.partials()) == (store.path(SPEC), [])


@both
def test_what_is_damaged_there_is_refused_until_somebody_removes_it(
    machine: Callable[[str], Store], address: str
) -> None:
    machine("a").get_or_build(SPEC, build)
    change(address, "weights", b"abd")
    store = machine("b")
    for use in (lambda: store.open(SPEC), lambda: store.get_or_build(SPEC, never)):
        with pytest.raises(StoreError, match="weights has another content than was written") as caught:
            use()
    assert not store.has(SPEC)
    (place,) = re.findall(r"remove (\S+);", str(caught.value))
    remove(place)
    machine("b").get_or_build(SPEC, build)
    assert (machine("c").get_or_build(SPEC, never) / "weights").read_text() == "abc"


def remove(place: str) -> None:
    """Remove a file or folder of a mirror."""
    files, root = fsspec.core.url_to_fs(place)
    files.invalidate_cache()
    files.rm(files.find(root))


def sign(manifest: dict[str, Any]) -> bytes:
    """A manifest as somebody writes it who knows the format."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return json.dumps(rest | {"sha256": content_hash(rest)}).encode()


@pytest.mark.parametrize(
    "change_of", [{"files": {"../outside": {"size": 3, "sha256": ""}}}, {"recipe": {"lr": 7}}, {"id": "../x"}], ids=repr
)
def test_a_made_up_manifest_is_refused(
    machine: Callable[[str], Store], address: str, change_of: dict[str, Any]
) -> None:
    manifest = json.loads((machine("a").get_or_build(SPEC, build) / "manifest.json").read_text())
    change(address, "manifest.json", sign(manifest | change_of))
    with pytest.raises(StoreError, match=r"manifest\.json is missing or damaged \("):
        machine("b").open(SPEC)


def test_an_artifact_under_another_id_is_refused(machine: Callable[[str], Store], address: str) -> None:
    folder = machine("a").get_or_build(SPEC, build)
    Remote(address).put(folder / "manifest.json", f"{SECOND.kind}/{SECOND.id}/manifest.json")
    with pytest.raises(StoreError, match="is refused: its manifest describes something else"):
        machine("b").open(SECOND)


def test_two_machines_that_made_it_differently_never_mix(
    machine: Callable[[str], Store], address: str, tmp_path: Path
) -> None:
    alone = [Store(tmp_path / name / "store") for name in ("a", "b")]
    for number, store in enumerate(alone):
        store.get_or_build(SPEC, lambda folder, n=number: {"n": (folder / "weights").write_text(f"{n}")})
    for name, store in zip(("a", "b"), alone, strict=True):
        assert machine(name).push(store.path(SPEC))
        if name == "a":  # as if it had not been there yet when the second one looked
            remove(f"{address}/{SPEC.kind}/{SPEC.id}/manifest.json")
    assert (machine("c").get_or_build(SPEC, never) / "weights").read_text() == "1"


def test_a_server_may_go_away(server: S3Server, s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def open_store(name: str) -> Store:
        return Store(tmp_path / name / "store", Mirror(Remote(s3)))

    store = open_store("a")
    store.get_or_build(SPEC, build)
    server.stop()
    try:
        store.get_or_build(SECOND, build)
        assert not open_store("b").is_available(SPEC)
        with pytest.raises(MirrorError):
            open_store("a").push(store.path(SECOND))
    finally:
        server.start()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2  # one by each of the commands that these stores stand for
    assert all(warning.startswith(f"mirror   {s3}: stage/") and "\n" not in warning for warning in warnings)
    assert all(warning.endswith("stays here, `sacpo store push` sends it") for warning in warnings)
    assert store.open(SECOND).is_dir()
    open_store("a").get_or_build(SECOND, never)  # the next run
    assert open_store("b").get_or_build(SECOND, never).is_dir()


def test_out_of_reach_at_the_start_is_a_warning(
    s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    mirror = open_mirror(s3)
    store = Store(tmp_path / "store", mirror)
    assert (mirror.is_down, store.is_available(SPEC)) == (True, False)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"mirror   {s3} can't be reached: EndpointConnectionError, ")
