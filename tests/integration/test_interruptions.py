"""A command that is told to end while it does something else than training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from asking import served


def test_a_signal_ends_a_command_with_a_sentence(tmp_path: Path) -> None:
    with served(tmp_path / "server", latency=60) as server:
        for name in ("one", "two"):
            rows = [{"prompt": "Why?", "response": f"Because of {name}."}]
            (tmp_path / f"{name}.json").write_text(json.dumps(rows), "utf-8")
        overrides = ["judge=local", f"judge.base_url={server.url}", "judge.timeout=99", "responses=[one.json,two.json]"]
        listening: Any = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}  # even under nohup
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        line = [sys.executable, "-m", "sacpo_exp.eval", *overrides, "baseline=one"]
        process = subprocess.Popen(line, cwd=tmp_path, **pipes, **listening)
        end = time.monotonic() + 60
        while not (tmp_path / "outputs" / "ledger.sqlite").exists():  # to ask the judge, who does not answer
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGHUP)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGHUP, stderr
    assert "interrupted by SIGHUP: what was finished is stored" in stderr
    assert "Traceback" not in stderr
    (state,) = tmp_path.glob("outputs/runs/*/*/state.yaml")
    assert yaml.safe_load(state.read_text("utf-8"))["state"] == "stopped"
