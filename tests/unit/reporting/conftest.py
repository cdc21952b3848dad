"""Fixtures of reports that several modules read."""

from pathlib import Path
from typing import Any

import pytest
from made_up import fill_store


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory, configure: Any) -> Path:
    """The page over 30 policies and 212 prompts."""
    world = fill_store(tmp_path_factory.mktemp("large"), configure, "helpful_first")
    return world.report(bootstrap_rounds=20, max_missing=0.5) / "report.html"
