"""`sacpo store`: list, show, verify, prune."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from damage import leave_old, overwrite

from sacpo_exp.storage import main
from sacpo_exp.store import ArtifactSpec, Store

PARENT = ArtifactSpec("stage", "first", {"lr": 1}, (), {})
CHILD = ArtifactSpec("stage", "second", {"lr": 2}, (PARENT.id,), {})
OTHER = ArtifactSpec("merge", "other", {"q": 0.5}, (), {})


def build(folder: Path) -> dict[str, Any]:
    (folder / "weights").write_text("abc")
    return {"loss": 0.5}


def fail(folder: Path) -> dict[str, Any]:
    (folder / "half").write_text("half")
    raise RuntimeError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Parent, child and a third artifact; all whole."""
    store = Store(tmp_path / "store")
    for spec in (PARENT, CHILD, OTHER):
        store.get_or_build(spec, build)
    return store


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in this process; gives exit code, stdout and stderr."""

    def run(*arguments: str, keyboard: io.StringIO | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["store", "--outputs", str(store.root.parent), *arguments])
        monkeypatch.setattr(sys, "stdin", keyboard or io.StringIO())
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def leave_partial(store: Store) -> Path:
    spec = ArtifactSpec("stage", "unfinished", {}, (), {})
    with pytest.raises(RuntimeError):
        store.get_or_build(spec, fail)
    return store.path(spec).with_name(f"{spec.id}.partial")


def stored(store: Store) -> set[str]:
    return {manifest.id for _, manifest in store.manifests()}


def test_list_shows_every_artifact_the_total_and_what_is_unfinished(command: Any, store: Store) -> None:
    partial = leave_partial(store)
    code, out, err = command("list")
    *lines, unfinished, total = out.splitlines()
    assert unfinished.endswith(f"unfinished; the same command goes on with it  {partial.name}")
    assert (code, err) == (0, "")
    assert [line.split()[-1] for line in lines] == [OTHER.id, PARENT.id, CHILD.id]
    assert [line.split()[0] for line in lines] == ["merge", "stage", "stage"]
    assert total == f"0.0 MB in {store.root}"


@pytest.mark.parametrize("wanted", [CHILD.id[-10:], "second"], ids=["hash", "slug"])
def test_show_prints_the_manifest(command: Any, wanted: str) -> None:
    code, out, _ = command("show", wanted)
    manifest = json.loads(out)
    assert (code, manifest["id"], manifest["parents"]) == (0, CHILD.id, [PARENT.id])
    assert manifest["metrics"] == {"loss": 0.5}


def test_verify_names_what_differs_and_ends_with_1(command: Any, store: Store) -> None:
    code, out, _ = command("verify")
    assert (code, out.splitlines()) == (0, [f"ok       {spec.id}" for spec in (OTHER, PARENT, CHILD)])
    overwrite(store.path(CHILD) / "weights", "abd")
    code, out, err = command("verify")
    assert code == 1
    assert f"damaged  {CHILD.id}\n         weights has another content than was written\n" in out
    assert "1 artifacts are damaged. Try: sacpo store prune --damaged" in err
    assert f"--outputs {store.root.parent}" in err


@pytest.mark.parametrize("text", ["{", None], ids=str)
@pytest.mark.parametrize("arguments", [["list"], ["verify"], ["prune", "--damaged", "--yes"]], ids=" ".join)
def test_a_damaged_manifest_hides_none(command: Any, store: Store, arguments: list[str], text: str | None) -> None:
    manifest = store.path(OTHER) / "manifest.json"
    overwrite(manifest, text) if text else manifest.unlink()
    code, out, _ = command(*arguments)
    assert code == (arguments == ["verify"])
    assert ("--damaged" in arguments) == (not store.path(OTHER).exists())
    assert "prune" in arguments or CHILD.id in out


class Watching(io.StringIO):
    """A keyboard at which somebody looks, when asked, whether the artifacts are being worked on."""

    def __init__(self, store: Store, folder: Path) -> None:
        super().__init__("y\n")
        self.store, self.folder, self.is_held = store, folder, False

    def readline(self, *arguments: Any) -> str:
        self.is_held = self.store.is_building(self.folder)
        return super().readline(*arguments)


@pytest.mark.parametrize("what", ["leftovers", "named", "damaged"])
def test_prune_holds_the_lock_while_it_asks(command: Any, store: Store, what: str) -> None:
    folder = leave_partial(store) if what == "leftovers" else store.path(OTHER)
    if what == "damaged":
        overwrite(folder / "weights", "abd")
    keyboard = Watching(store, folder)
    arguments = {"leftovers": [], "named": [OTHER.id], "damaged": ["--damaged"]}[what]
    assert command("prune", *arguments, keyboard=keyboard)[1].endswith("removed 1\n")
    assert keyboard.is_held
    assert not store.is_building(folder)
    assert not folder.exists()


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "nobody there"])
def test_prune_asks_and_takes_nothing_without_a_yes(command: Any, store: Store, answer: str) -> None:
    partial = leave_partial(store)
    code, out, _ = command("prune", keyboard=io.StringIO(answer))
    assert code == 0
    assert str(partial) in out
    assert "Remove these 1? [y/N] " in out
    assert out.endswith("nothing removed\n")
    assert partial.is_dir()


def test_prune_leaves_what_is_being_made(command: Any, store: Store) -> None:
    spec = ArtifactSpec("stage", "in the making", {}, (), {})

    def build_and_prune(folder: Path) -> dict[str, Any]:
        assert command("prune", "--yes") == (0, "nothing to remove\n", "")
        return build(folder)

    assert store.get_or_build(spec, build_and_prune).is_dir()


def test_prune_never_takes_a_parent(command: Any, store: Store) -> None:
    code, _, err = command("prune", OTHER.id, PARENT.id, "--yes")
    assert (code, err) == (2, f"error: `{PARENT.id}` stays: other artifacts descend from it.\n")
    assert len(stored(store)) == 3


def test_a_damaged_parent_goes_so_that_it_can_be_made_again(command: Any, store: Store) -> None:
    partial = leave_partial(store)
    overwrite(store.path(PARENT) / "weights", "ab")
    assert command("prune", "--damaged", "--yes")[0] == 0
    assert stored(store) == {CHILD.id, OTHER.id}
    assert partial.is_dir()
    store.get_or_build(PARENT, build)
    assert command("verify")[0] == 0


def test_artifacts_of_an_older_version_are_listed_and_not_read(command: Any, store: Store) -> None:
    parent = leave_old(store)
    child = leave_old(store, parent.name)
    code, out, _ = command("list")
    lines = out.splitlines()
    marked = [line.split("  ")[-2] for line in lines if "of an older version" in line]
    assert (code, sorted(marked)) == (0, sorted([parent.name, child.name]))
    assert json.loads(command("show", child.name)[1])["parents"] == [parent.name]
    assert command("verify")[0] == 0
    assert stored(store) == {PARENT.id, CHILD.id, OTHER.id}
    assert command("prune", parent.name, "--yes")[0] == 2  # it is a parent all the same


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_prune_takes_all_of_older_versions_and_asks_first(command: Any, store: Store, answer: str) -> None:
    parent = leave_old(store)
    child, partial = leave_old(store, parent.name), leave_partial(store)
    code, out, _ = command("prune", "--damaged", keyboard=io.StringIO(answer))
    assert code == 0
    assert "Remove these 2? [y/N] " in out
    assert parent.exists() == child.exists() == (answer == "n\n")
    assert stored(store) == {PARENT.id, CHILD.id, OTHER.id}
    assert partial.is_dir()
