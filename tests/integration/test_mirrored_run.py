"""Commands with a mirror: what the cluster trained the laptop evaluates; mistakes are told before any work."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3_server import SECRET, S3Server
from tiny import make_config, make_run

from sacpo_exp.eval import evaluate
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.store import ArtifactSpec, Store

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
    assert said().count("uploaded") == 3
    shutil.rmtree(cluster)

    evaluate(make_config(laptop, *mirrored))
    lines = said()
    assert {"fetched stage", "finished responses", "finished judgments", "uploaded"} <= set(lines)
    assert not {"trains", "finished stage", "finished model", "fetched dataset"} & set(lines)
    assert "dataset" not in kinds(laptop)

    evaluate(make_config(desk, *mirrored))  # all is judged: no weights are needed
    assert kinds(desk) == {"responses", "judgments", "divergence"}
    assert {line for line in said() if line.startswith("finished")} == set()


def test_a_dry_run_says_where_things_are_and_moves_nothing(
    s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    "no such kind": ("store.mirror=nonsense://x/y", {}, "is of no known kind: Protocol not known: nonsense"),
    "not installed": ("store.mirror=gs://bucket/x", {}, "Try: pip install 'gs'"),
    "no address": ("store.mirror=some/folder", {}, "`store.mirror` must be an address, but is 'some/folder'. Try: "),
    "no bucket": ("store.mirror=s3://missing/x", {}, "the mirror s3://missing/x is not there: FileNotFoundError, "),
    "no name": ("store.mirror=s3://b!/x", {}, "the mirror s3://b!/x can't be used: ParamValidationError, "),
    "wrong secret": (
        "store.mirror=s3://bucket/x",
        {"AWS_SECRET_ACCESS_KEY": "a-wrong-one"},
        "the mirror s3://bucket/x can't be used: PermissionError, ",
    ),
    "no credentials": (
        "store.mirror=s3://bucket/x",
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"},
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are read from the environment or a .env file here.",
    ),
}


@pytest.mark.parametrize(("override", "variables", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_told_before_anything_is_loaded(
    server: S3Server, cli: Callable[..., Any], override: str, variables: dict[str, str], sentence: str
) -> None:
    result = cli("train", "model=tiny", override, light=True, variables=server.variables | variables)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_secret_in_the_address_is_refused_and_written_nowhere(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("train", "model=tiny", "store.mirror='s3://KEY:hidden/secret@bucket'", light=True)
    assert (result.code, "hidden" in result.stderr) == (2, False)
    assert "`store.mirror` must be an address without password or query" in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "hidden" in path.read_text("utf-8")]


def test_keys_from_a_dotenv_file_open_the_mirror_and_are_written_nowhere(
    server: S3Server, cli: Callable[..., Any], tmp_path: Path
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in server.variables.items()), "utf-8")
    result = cli("train", "model=tiny", "store.mirror=s3://bucket/x", "dry_run=true", light=True)
    assert (result.code, result.stderr) == (0, "")
    assert "0 stored, 0 in s3://bucket/x, " in result.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != dotenv]
    assert [path for path in written if path.name == "resolved.yaml"]
    assert not [path for path in written if SECRET in path.read_text("utf-8")]


def test_push_and_pull(cli: Callable[..., Any], server: S3Server, s3: str, tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        return {"n": (folder / "weights").write_text("abc")}

    def store(command: str, *arguments: str, outputs: str = "outputs") -> Any:
        place = ("--outputs", outputs, "--mirror", s3)
        return cli("store", command, *place, *arguments, light=True, variables=server.variables)

    here = Store(tmp_path / "outputs" / "store")
    for spec in (PARENT, JUDGED):
        here.get_or_build(spec, build)
    lines = [f"{JUDGED.kind:<11} {JUDGED.id}", f"{PARENT.kind:<11} {PARENT.id}"]
    for state in ("uploaded", "is there"):
        result = store("push")
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [f"{state} {line}" for line in lines]
    assert store("pull", "--kind", "judgments", outputs="other").stdout.splitlines() == [f"fetched  {lines[0]}"]
    assert store("pull", outputs="other").stdout.splitlines() == [f"is here  {lines[0]}", f"fetched  {lines[1]}"]
    assert cli("store", "verify", "--outputs", "other").code == 0
    assert store("pull", "unknown").stderr == f"error: `unknown` fits nothing in {s3}.\n"
    (here.path(PARENT) / "weights").write_text("abd")
    result = store("push", "--again")
    assert (result.code, result.stdout.splitlines()) == (1, [f"uploaded {lines[0]}", f"left out {lines[1]}"])
    assert "is damaged: weights; it is not uploaded" in result.stderr


def test_push_says_that_nobody_answers(cli: Callable[..., Any], server: S3Server, s3: str, tmp_path: Path) -> None:
    Store(tmp_path / "outputs" / "store").get_or_build(PARENT, lambda _: {})
    variables = server.variables | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    result = cli("store", "push", "--mirror", s3, light=True, variables=variables)
    assert result.code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {s3}: stage/{PARENT.id}/manifest.json can't be read: ")
    assert "Traceback" not in result.stderr
