"""Artifacts are there entirely or not at all, are made once, and damage is found."""

import json
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from damage import overwrite

from sacpo_exp.errors import DataError, StoreError
from sacpo_exp.store import ArtifactSpec, Store, content_hash
from sacpo_exp.store.identity import is_id

FORK = multiprocessing.get_context("fork")


def make_spec(name: str = "thing", kind: str = "stage", parents: tuple[str, ...] = (), **recipe: Any) -> ArtifactSpec:
    return ArtifactSpec(kind, name, recipe, parents, {"policy": name})


def write(**files: str) -> Callable[[Path], dict[str, Any]]:
    """A builder of these files."""

    def build(folder: Path) -> dict[str, Any]:
        for name, text in files.items():
            (folder / name).write_text(text)
        return {"n": len(files)}

    return build


def fail(folder: Path) -> dict[str, Any]:
    (folder / "stray").write_text("half")
    (folder / "checkpoints" / "half").write_text("half")
    raise RuntimeError("no space left")


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError(f"{folder} is built again")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_built_is_there_whole_with_its_manifest(store: Store) -> None:
    spec = make_spec(parents=("parent-1",), lr=0.1)
    folder = store.get_or_build(spec, write(weights="abc", note=""))
    assert folder == store.root / "stage" / spec.id == store.path(spec)
    assert (folder / "weights").read_text() == "abc"
    manifest = store.manifest(spec)
    assert (manifest.id, manifest.kind, manifest.recipe) == (spec.id, "stage", {"lr": 0.1})
    assert (manifest.parents, manifest.labels, manifest.metrics) == (["parent-1"], {"policy": "thing"}, {"n": 2})
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert manifest.files["weights"] == {"size": 3, "sha256": abc}
    assert set(manifest.files) == {"weights", "note"}
    assert manifest.size == 3
    assert manifest.versions["python"]
    assert store.partials() == []


def test_the_next_build_goes_on_with_what_a_failed_one_left(store: Store) -> None:
    spec = make_spec()
    with pytest.raises(RuntimeError):
        store.get_or_build(spec, fail)

    def finish(folder: Path) -> dict[str, Any]:
        assert [path.name for path in folder.iterdir()] == ["checkpoints"]
        (folder / "whole").write_text((folder / "checkpoints" / "half").read_text() * 2)
        return {}

    assert (store.get_or_build(spec, finish) / "whole").read_text() == "halfhalf"
    assert sorted(path.name for path in store.path(spec).iterdir()) == ["manifest.json", "whole"]
    assert store.partials() == []


@pytest.mark.parametrize(
    ("content", "has_checkpoints"), [("abc", True), ("abc", False), ("abd", False)], ids=["resumed", "whole", "damaged"]
)
def test_a_build_killed_after_its_manifest_is_finished(store: Store, content: str, has_checkpoints: bool) -> None:
    spec = make_spec()
    whole = store.get_or_build(spec, write(weights="abc"))
    overwrite(whole / "weights", content)
    partial = whole.rename(whole.with_name(f"{spec.id}.partial"))
    if has_checkpoints:
        (partial / "checkpoints" / "checkpoint-2").mkdir(parents=True)
        (partial / "checkpoints" / "checkpoint-2" / "optimizer.pt").write_text("state")
    assert store.get_or_build(spec, never if content == "abc" else write(weights="abc")) == whole
    assert sorted(path.name for path in whole.iterdir()) == ["manifest.json", "weights"]
    assert (whole / "weights").read_text() == "abc"
    assert store.partials() == []


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "weights is missing"),
    "cut": (lambda path: overwrite(path, "ab"), "weights has 2 bytes instead of 3"),
    "changed": (lambda path: overwrite(path, "abd"), "weights has another content than was written"),
}


@pytest.mark.parametrize(("harm", "problem"), DAMAGE.values(), ids=list(DAMAGE))
def test_open_finds_damage_and_says_how_to_repair_it(store: Store, harm: Callable[[Path], None], problem: str) -> None:
    spec = make_spec()
    folder = store.get_or_build(spec, write(weights="abc"))
    assert store.open(spec) == folder
    harm(folder / "weights")
    with pytest.raises(StoreError, match=f"is damaged: {problem}. Remove it .* prune --damaged --outputs"):
        Store(store.root).open(spec)
    with pytest.raises(StoreError, match=r"prune --damaged"):
        Store(store.root).get_or_build(spec, never)


def rewrite(folder: Path, change: dict[str, Any], is_signed: bool) -> None:
    """Change values of a manifest; signed ones get the hash that whoever knows the format would give them."""
    content = json.loads((folder / "manifest.json").read_text()) | change
    signature = content.pop("sha256")
    content["sha256"] = content_hash(content) if is_signed else signature
    overwrite(folder / "manifest.json", json.dumps(content))


UNSIGNED: list[dict[str, Any]] = [{"metrics": {"n": 2}}, {"labels": {}}]
WRONG: list[dict[str, Any]] = [
    {"recipe": {"lr": 0.2}},
    {"parents": ["other-0123456789"]},
    {"kind": "../.."},
    {"id": "../../thing"},
    {"files": {"weights": {"size": "3", "sha256": ""}}},
    {"files": {"a": {"size": 3, "sha256": ""}, "a/b": {"size": 3, "sha256": ""}}},
    {"files": {"a/../../b": {"size": 3, "sha256": ""}}},
    {"labels": None},
]


@pytest.mark.parametrize("change", [*UNSIGNED, *WRONG], ids=repr)
def test_a_manifest_protects_itself(store: Store, change: dict[str, Any]) -> None:
    spec = make_spec(lr=0.1)
    folder = store.get_or_build(spec, write(weights="abc"))
    rewrite(folder, change, is_signed=change in WRONG)
    with pytest.raises(StoreError, match=r"manifest\.json is missing or damaged \(") as caught:
        Store(store.root).get_or_build(spec, never)
    assert "\n" not in str(caught.value)
    assert list(store.manifests()) == []


def count_builds(root: Path, counter: Path, barrier: Barrier, name: str) -> None:
    """Run in a process of its own: wait for the other, then want the same artifact as it."""

    def build(folder: Path) -> dict[str, Any]:
        with counter.open("a") as file:
            file.write("built\n")
        (folder / "weights").write_text("x" * 1_000_000)
        return {}

    barrier.wait()
    Store(root).get_or_build(make_spec(name), build)


def test_two_processes_that_want_the_same_under_two_names_build_it_once(store: Store, tmp_path: Path) -> None:
    counter, barrier = tmp_path / "counter", FORK.Barrier(2)
    arguments = [(store.root, counter, barrier, name) for name in ("thing", "another-name")]
    processes = [FORK.Process(target=count_builds, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert counter.read_text() == "built\n"
    assert store.open(make_spec()).is_dir()


@pytest.mark.parametrize("name", ["stray", "checkpoints/half"])
def test_what_a_user_has_to_change_leaves_only_what_can_be_resumed(store: Store, name: str) -> None:
    def refuse(folder: Path) -> dict[str, Any]:
        (folder / name).write_text("half")
        raise DataError("row 3 has no prompt.")

    with pytest.raises(DataError, match="row 3"):
        store.get_or_build(make_spec(), refuse)
    assert len(store.partials()) == (name == "checkpoints/half")


def test_what_was_made_under_another_slug_is_found(store: Store) -> None:
    folder = store.get_or_build(make_spec("old"), write(weights="abc"))
    again = Store(store.root)
    assert make_spec("new") == make_spec("old")
    assert again.get_or_build(make_spec("new"), never) == again.open(make_spec("new")) == folder
    assert again.manifest(make_spec("new")).id == folder.name == make_spec("old").id


def test_manifests_call_one_artifact_by_one_id(store: Store) -> None:
    old, new = (make_spec(name) for name in ("old", "new"))
    outside = [make_spec(name, lr=1) for name in ("outside", "renamed")]
    store.get_or_build(old, write(weights="abc"))
    for number, (policy, baseline) in enumerate(zip((old, new), outside, strict=True)):
        labels = {"policy_id": policy.id, "baseline_id": baseline.id, "lineage": {"policies": [{"id": policy.id}]}}
        spec = ArtifactSpec("judgments", "judged", {"number": number}, (policy.id,), labels)
        store.get_or_build(spec, write(verdicts=""))
    judged = [manifest for _, manifest in store.manifests() if manifest.kind == "judgments"]
    assert [manifest.parents for manifest in judged] == [[old.id]] * 2
    assert {manifest.labels["policy_id"] for manifest in judged} == {old.id}
    assert all(manifest.labels["lineage"] == {"policies": [{"id": old.id}]} for manifest in judged)
    assert len({manifest.labels["baseline_id"] for manifest in judged}) == 1


def test_ids_are_readable_and_safe_names_of_folders() -> None:
    for slug, start in (("SmolLM2_135M/β=0.1", "smollm2-135m-0.1-"), ("..hidden", "hidden-")):
        assert re.fullmatch(re.escape(start) + "[0-9a-f]{10}", make_spec(slug).id)
        assert is_id(make_spec(slug).id)
    for name in ("..", "", "a", "../a-0123456789", ".a-0123456789", "a-0123456789.partial", "a\n"):
        assert not is_id(name)


def test_a_manifest_without_a_hash_over_itself_is_of_an_older_version(store: Store) -> None:
    folder = store.get_or_build(make_spec(), write(weights="abc"))
    content = json.loads((folder / "manifest.json").read_text())
    del content["sha256"]
    overwrite(folder / "manifest.json", json.dumps(content))
    assert Store(store.root).get_or_build(make_spec(), never) == folder


def test_another_artifact_is_not_taken_for_the_one_whose_name_its_folder_has(store: Store) -> None:
    usual, other = make_spec(lr=0.1), make_spec(lr=0.2)
    store.get_or_build(usual, write(weights="abc")).rename(store.path(other))
    with pytest.raises(StoreError, match=rf"manifest\.json is that of {re.escape(usual.id)}"):
        store.get_or_build(other, never)


def test_the_recipe_kind_and_parents_decide_the_id_and_neither_order_nor_labels_do() -> None:
    usual = ArtifactSpec("stage", "a", {"x": 1, "y": {"p": 1, "q": 2}}, ("parent",), {})
    same = ArtifactSpec("stage", "a", {"y": {"q": 2, "p": 1}, "x": 1}, ("parent",), {"policy": "any"})
    assert (usual, usual.id, hash(usual)) == (same, same.id, hash(same))
    others = [make_spec(lr=0.2), make_spec(parents=("parent",), lr=0.1), make_spec(kind="merge", lr=0.1)]
    assert len({spec.id for spec in (make_spec(lr=0.1), make_spec(lr="0.1"), *others)}) == 5
