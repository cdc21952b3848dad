"""The store that the integration tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs shared by the session: what one test has trained the next one reuses, as a user's runs do."""
    return tmp_path_factory.mktemp("outputs")
