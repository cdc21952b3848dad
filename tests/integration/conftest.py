"""What the integration tests share: stores, and an S3 server."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server
from tiny import share


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs shared by the session and by all its processes: what one test has trained the others reuse.

    Other tests may store more at any moment; a test that counts what is stored needs `trained`.
    """
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "outputs"


@pytest.fixture(scope="module")
def trained(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of the module's own, in which the stages of the tiny plan are trained and the scorer is fitted."""
    folder = tmp_path_factory.mktemp("trained")
    share(outputs, folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server with an empty bucket."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder on the server, which the environment gives access to."""
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"
