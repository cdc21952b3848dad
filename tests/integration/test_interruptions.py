"""A command that is told to end while it does something else than training."""

import os
import signal
from pathlib import Path

import yaml
from asking import served, write_responses
from processes import fork_command, wait_until


def test_a_signal_ends_a_command_with_a_sentence(tmp_path: Path) -> None:
    with served(tmp_path / "server", latency=60) as server:
        paths = write_responses(tmp_path, ["Why?"], {"one": ["Because."], "two": ["It is so."]}, ["benign"])
        overrides = ["judge=local", f"judge.base_url={server.url}", "judge.timeout=99", "baseline=one"]
        overrides.append(f"responses=[{','.join(paths)}]")
        process = fork_command(tmp_path, "eval", *overrides)
        wait_until((tmp_path / "outputs" / "ledger.sqlite").exists)  # to ask the judge, who does not answer
        os.kill(process.pid or 0, signal.SIGHUP)
        process.join(30)
    output = (tmp_path / "printed").read_text("utf-8")
    assert process.exitcode == 128 + signal.SIGHUP, output
    assert "interrupted by SIGHUP: what was finished is stored" in output
    assert "Traceback" not in output
    (state,) = tmp_path.glob("outputs/runs/*/*/state.yaml")
    assert yaml.safe_load(state.read_text("utf-8"))["state"] == "stopped"
