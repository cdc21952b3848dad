"""Commands with a mirror: what the cluster trained the laptop evaluates; mistakes are told before any work."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3_server import KEY, SECRET, S3Server
from tiny import make_config, make_run

from sacpo_exp.errors import ConfigError
from sacpo_exp.eval import evaluate
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.store import ArtifactSpec, Store
from sacpo_exp.store.mirror import describe, open_mirror

ONE_STAGE = ("order=helpful_only", "base=none", "policies=all")
PARENT = ArtifactSpec("stage", "first", {"lr": 1}, (), {})
JUDGED = ArtifactSpec("judgments", "judged", {}, (PARENT.id,), {})

Said = Callable[[], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """First words of the lines since the last call, with the kind of what they are about."""
    caplog.set_level(logging.INFO)

    def take() -> list[str]:
        lines = [record.getMessage().split() for record in caplog.records if record.name.startswith("sacpo_exp")]
        caplog.clear()
        return [" ".join([line[0], *(part for part in Path(line[1]).parts[-2:-1] if line)]) for line in lines]

    return take


def kinds(outputs: Path) -> set[str]:
    return {path.name for path in (outputs / "store").glob("[a-z]*")}


def test_the_laptop_evaluates_what_the_cluster_trained(s3: str, tmp_path: Path, said: Said) -> None:
    cluster, laptop, desk = (tmp_path / name for name in ("cluster", "laptop", "desk"))
    mirrored = (*ONE_STAGE, f"store.mirror={s3}")
    run = make_run(cluster, *mirrored)
    assert run.plan == make_run(cluster, *ONE_STAGE).plan
    train_policies(run)
    assert said().count("uploaded") == 4  # model, dataset, stage, the reference's log-probabilities
    shutil.rmtree(cluster)

    evaluate(make_config(laptop, *mirrored, "heldout_pairs=0"))
    lines = said()
    assert {"fetched stage", "finished responses", "finished judgments", "uploaded"} <= set(lines)
    assert not {"trains", "finished stage", "finished model", "fetched dataset"} & set(lines)
    assert "dataset" not in kinds(laptop)

    evaluate(make_config(desk, *mirrored, "heldout_pairs=0"))  # all is judged: no weights are needed
    assert kinds(desk) == {"responses", "judgments", "divergence"}
    assert {line for line in said() if line.startswith("finished")} == set()


def test_a_dry_run_says_where_things_are(s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sacpo_exp.train import train

    overrides = (*ONE_STAGE, f"store.mirror={s3}")
    run = open_run(make_config(tmp_path / "cluster", *overrides))
    run.store.get_or_build(run.plan.stages[0].artifact, lambda folder: {"n": (folder / "x").write_text("")})
    train(make_config(tmp_path / "laptop", *overrides, "dry_run=true"))
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[-1]: line.split()[0] for line in lines[1:4]}
    assert states == {spec.id: "mirror" if spec.kind == "stage" else "to" for spec in run.plan.training()}
    assert f"0 stored, 1 in {s3}, 2 to make, in {tmp_path / 'laptop' / 'store'}" in lines
    assert not kinds(tmp_path / "laptop")


MISTAKES = {
    "no such kind": ("nonsense://x/y", {}, "is of no known kind: Protocol not known: nonsense"),
    "not installed": ("gs://bucket/x", {}, "Try: pip install 'gs'"),
    "no address": ("some/folder", {}, "`store.mirror` must be an address, but is 'some/folder'. Try: "),
    "no bucket": ("s3://missing/x", {}, "the mirror s3://missing/x is not there: FileNotFoundError, "),
    "wrong secret": ("s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "can't be used: PermissionError, "),
    "no credentials": (
        "s3://bucket/x",
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"},
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are read from the environment or a .env file here.",
    ),
}


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(("address", "variables", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, address: str, variables: dict[str, str], sentence: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # as in a new process
    try:
        with pytest.raises(ConfigError) as caught:
            open_mirror(address)
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert sentence in str(caught.value)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_keys_from_a_dotenv_file_open_the_mirror(server: S3Server, cli: Callable[..., Any], tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in server.variables.items()), "utf-8")
    result = cli("train", "model=tiny", "store.mirror=s3://bucket/x", "dry_run=true", light=True)
    assert (result.code, result.stderr) == (0, "")
    assert "0 stored, 0 in s3://bucket/x, " in result.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != dotenv]
    assert [path for path in written if path.name == "resolved.yaml"]
    assert not [path for path in written if SECRET in path.read_text("utf-8")]


@pytest.fixture
def here(tmp_path: Path) -> Store:
    """What lies in outputs: a stage and its judgments, which no mirror has seen."""
    store = Store(tmp_path / "outputs" / "store")
    for spec in (PARENT, JUDGED):
        store.get_or_build(spec, lambda folder: {"n": (folder / "weights").write_text("abc")})
    return store


LINES = [f"{spec.kind:<11} {spec.id}" for spec in (JUDGED, PARENT)]


def test_push_and_pull_move_what_is_missing(cli: Callable[..., Any], s3: str, here: Store, tmp_path: Path) -> None:
    def store(outputs: str, *words: str) -> list[str]:
        done = cli("store", *words, "--outputs", outputs, "--mirror", s3, light=True)
        assert (done.code, done.stderr) == (0, "")
        return list(done.stdout.splitlines())

    assert store("outputs", "push", PARENT.id[-6:]) == [f"uploaded {LINES[1]}"]
    assert store("outputs", "push") == [f"uploaded {LINES[0]}", f"is there {LINES[1]}"]
    other = Store(tmp_path / "other" / "store")
    assert store("other", "pull", "--kind", "judgments") == [f"fetched  {LINES[0]}"]
    assert store("other", "pull") == [f"is here  {LINES[0]}", f"fetched  {LINES[1]}"]
    assert [other.open(spec).name for spec in (PARENT, JUDGED)] == [PARENT.id, JUDGED.id]
    assert here.open(PARENT) != other.open(PARENT)


@pytest.mark.usefixtures("s3")
def test_no_error_repeats_a_key() -> None:
    assert describe(OSError(f"signed with {SECRET}\nby {KEY}.")) == "OSError, signed with … by …"
