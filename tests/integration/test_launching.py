"""Worker groups: real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY

pytestmark = pytest.mark.slow


def test_a_worker_that_lacks_a_library_says_which(tmp_path: Path) -> None:
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / "__init__.py").write_text("import a_library_that_is_not_there\n")
    command = [sys.executable, "-m", "sacpo_exp.train", *TINY, "base=none", "order=helpful_only", "hardware=cpu_x2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, f"paths.outputs={tmp_path / 'outputs'}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the helpfulness stage: rank ")
    assert "ModuleNotFoundError: No module named 'a_library_that_is_not_there'." in last
    assert ".log" in last
