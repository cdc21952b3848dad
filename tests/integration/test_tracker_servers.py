"""Trackers as they are: MLflow's server, wandb out of reach, kills; each in processes of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from loopback import find_free_port
from processes import finish, wait_until
from tracked_commands import (
    BIN,
    LONG,
    ONE_STAGE,
    curves,
    install,
    of_type,
    query,
    read_run,
    start,
    wait_for_update,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("client"), "mlflow-skinny==3.17.2", "sqlalchemy>=2.0", "alembic>=1.15")


@pytest.fixture(scope="module")
def mlflow_server_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of MLflow, in an environment of its own."""
    folder = tmp_path_factory.mktemp("server") / "venv"
    subprocess.run([BIN / "uv", "venv", "-q", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([BIN / "uv", "pip", "install", "-q", "--python", python, "mlflow==3.17.2"], check=True)
    return python


@pytest.fixture
def mlflow_server(mlflow_server_python: Path, tmp_path: Path) -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    """Address, database and process of `mlflow server` on loopback."""
    database, address = tmp_path / "server.db", f"http://127.0.0.1:{find_free_port()}"
    command = [mlflow_server_python.with_name("mlflow"), "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", address.rsplit(":", 1)[1], "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    server = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until(lambda: is_healthy(address), server)
    yield address, database, server
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def is_healthy(address: str) -> bool:
    with suppress(OSError):
        urlopen(f"{address}/health", timeout=1).close()
        return True
    return False


def test_mlflow_s_server_has_the_run_and_may_die_before_its_end(
    mlflow_server: tuple[str, Path, "subprocess.Popen[bytes]"], mlflow_client: Path, tmp_path: Path
) -> None:
    address, database, server = mlflow_server
    tracked = {"packages": mlflow_client, "MLFLOW_TRACKING_URI": address}
    finish(start(tmp_path / "outputs", *ONE_STAGE, "tracker=mlflow", "tracker.group=swept", **tracked))  # type: ignore[arg-type]
    assert ("swept",) in query(database, "SELECT name FROM experiments")
    ((name, status),) = query(database, "SELECT name, status FROM runs")
    ((artifact,),) = query(database, "SELECT value FROM tags WHERE key = 'artifact'")
    assert (tmp_path / "outputs" / "store" / "stage" / str(artifact)).is_dir()
    assert (name, status) == ("DPO(H) β=0.1", "FINISHED")
    assert len(query(database, "SELECT step FROM metrics WHERE key = 'loss'")) == 3
    assert ("recipe.beta", "0.1") in query(database, "SELECT key, value FROM params")
    told = [str(value) for table in ("params", "tags") for (value,) in query(database, f"SELECT value FROM {table}")]
    assert [value for value in told if value.startswith("/")] == []

    process = start(tmp_path / "outputs", *LONG, "tracker=mlflow", **tracked)  # type: ignore[arg-type]
    wait_for_update(database, 10, process)
    os.killpg(server.pid, signal.SIGKILL)
    output = finish(process)
    assert output.count("no longer in mlflow, the run goes on") == 1
    assert "finished" in output


def test_a_stage_that_goes_on_continues_its_runs(mlflow_client: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    overrides = [*LONG, "tracker=[wandb,mlflow]"]
    process = start(tmp_path, *overrides, "tracker.group=before", packages=mlflow_client)
    wait_for_update(database, 20, process)
    process.terminate()
    process.communicate(timeout=120)
    output = finish(start(tmp_path, *overrides, "tracker.group=after", packages=mlflow_client))
    assert "resumes" in output

    assert query(database, "SELECT status FROM runs") == [("FINISHED",)]
    assert ("after",) not in query(database, "SELECT name FROM experiments")
    steps = {step for (step,) in query(database, "SELECT step FROM metrics WHERE key = 'loss'")}
    assert steps == set(range(1, 181))

    pieces = [read_run(folder) for folder in sorted((tmp_path / "wandb").glob("offline-run-*"))]
    runs = [next(of_type(piece, "run")) for piece in pieces]
    assert len({run["run_id"] for run in runs}) == 1
    logged = [curves(piece)["train/global_step"] for piece in pieces]
    assert logged[1][0] > 1
    assert {*logged[0], *logged[1]} == set(range(1, 181))


@pytest.mark.parametrize("answer", ["refuses", "is silent"])
def test_wandb_out_of_reach_costs_seconds_and_leaves_all_offline(tmp_path: Path, answer: str) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if answer == "is silent":
            listener.listen(100)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        key = {"WANDB_API_KEY": "0123456789abcdef" * 3, "WANDB_BASE_URL": address}
        started = time.monotonic()
        output = finish(start(tmp_path, "order=helpful_only", "tracker=wandb", **key))
        assert time.monotonic() - started < 150
        assert key["WANDB_API_KEY"] not in output
    assert output.count("tracks   offline, for wandb did not take the run") == 1
    assert output.count("wandb sync") == 1
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert all(len(curves(read_run(folder))["train/loss"]) >= 2 for folder in folders)
