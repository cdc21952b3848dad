"""Two nodes, as two commands on loopback that meet at a port."""

import subprocess
from pathlib import Path

import pytest
from loopback import find_free_port
from test_resume import start
from test_sharding import assert_alike
from tiny import make_run, train_run

pytestmark = pytest.mark.slow

NODES = ["base=none", "order=helpful_only", "hardware=cpu_x2", "hardware.nodes=2", "hardware.zero_stage=2"]


def start_node(outputs: Path, node: int, port: int, *overrides: str) -> "subprocess.Popen[str]":
    meeting = {"NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return start(outputs, *NODES, *overrides, **meeting)


def test_two_nodes_train_one_stage_together(outputs: Path, tmp_path: Path) -> None:
    port = find_free_port()
    second, first = start_node(tmp_path, 1, port), start_node(tmp_path, 0, port)
    said = [process.communicate(timeout=180)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert "trains " in said[0]
    assert "trains " not in said[1]
    alone = train_run(outputs, "base=none", "order=helpful_only")
    group = make_run(tmp_path, *NODES)
    assert_alike(alone, group)
    logs = tmp_path / "logs" / group.plan.stages[0].artifact.id
    assert {"launcher-0.log", "launcher-1.log", "rank-0.log", "rank-1.log"} <= {path.name for path in logs.iterdir()}


def test_a_failure_on_the_first_node_ends_the_second_one(tmp_path: Path) -> None:
    port = find_free_port()
    broken = "stages.helpfulness.learning_rate=1e30"
    processes = [start_node(tmp_path, node, port, broken) for node in (0, 1)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [3, 3], said
    assert "the helpfulness stage diverged" in said[0]
