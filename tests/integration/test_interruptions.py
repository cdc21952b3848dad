"""Commands that are told to end while they do something else than training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from asking import served


@pytest.mark.parametrize(("command", "signum"), [("eval", signal.SIGHUP), ("report", signal.SIGTERM)])
def test_a_signal_ends_a_command_with_a_sentence(tmp_path: Path, command: str, signum: signal.Signals) -> None:
    with served(tmp_path / "server", latency=60) as server:
        overrides = [f"paths.outputs={tmp_path}/outputs"]
        if command == "eval":
            files = [tmp_path / "one.json", tmp_path / "two.json"]
            for file in files:
                file.write_text(json.dumps([{"prompt": "Why?", "response": f"Because of {file.stem}."}]), "utf-8")
            judge = ["judge=local", f"judge.base_url={server.url}", "judge.timeout=100"]
            overrides += [f"responses=[{files[0]},{files[1]}]", "baseline=one", *judge]
        listening: Any = {"preexec_fn": lambda: signal.signal(signum, signal.SIG_DFL)}  # even under nohup
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        line = [sys.executable, "-m", f"sacpo_exp.{command}", *overrides]
        process = subprocess.Popen(line, cwd=tmp_path, **pipes, **listening)
        # The ledger is opened to ask the judge, who does not answer; `report` imports for long after it has begun.
        sign = "outputs/ledger.sqlite" if command == "eval" else "outputs/runs/*/*/state.yaml"
        end = time.monotonic() + 60
        while not list(tmp_path.glob(sign)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signum, stderr
    assert f"interrupted by {signum.name}: what was finished is stored" in stderr
    assert "Traceback" not in stderr
    (state,) = tmp_path.glob("outputs/runs/*/*/state.yaml")
    assert yaml.safe_load(state.read_text("utf-8"))["state"] == "stopped"
