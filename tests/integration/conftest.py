"""What the integration tests share: a store, and an S3 server."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs shared by the session: what one test has trained the next one reuses, as a user's runs do."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server with an empty bucket."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place on the server, which the environment gives access to."""
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"
