"""Several nodes, one group: every node runs the same command; the first one plans, the others join its groups.

They meet at the address that Slurm or the user gives in the environment, and share a file system.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
#: How long nodes wait for one another at the start; a batch system may start them minutes apart.
GATHERING = timedelta(minutes=10)
#: Between two checks whether the first node is still there.
LISTENING = timedelta(seconds=5)
#: How long the first node waits for the others at the end.
GOODBYE = timedelta(seconds=30)
#: Ports to choose from by Slurm's job number if none is given.
PORTS = range(20000, 30000)


@dataclass(frozen=True)
class Place:
    """The number of this node, and the address and port where all meet, which the first node opens."""

    node: int
    address: str
    port: int


def find_place(hardware: HardwareConfig, environment: Mapping[str, str]) -> Place:
    """Return where the nodes meet, from NODE_RANK, MASTER_ADDR and MASTER_PORT or the variables of Slurm.

    Raises:
        ConfigError: the environment lacks it, or is for another number of nodes.
    """
    job, nodes = environment.get("SLURM_JOB_ID", ""), str(hardware.nodes)
    found = {
        "NODE_RANK": environment.get("NODE_RANK") or environment.get("SLURM_NODEID", ""),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or environment.get("SLURM_LAUNCH_NODE_IPADDR", ""),
        "MASTER_PORT": environment.get("MASTER_PORT") or (str(PORTS[int(job) % len(PORTS)]) if job.isdecimal() else ""),
    }
    if missing := [name for name, value in found.items() if not value]:
        raise ConfigError(
            f"`hardware.nodes` is {nodes}, but the environment has no {' and no '.join(missing)}. Start the "
            "same command on every node by srun (launchers/slurm_train.sbatch), or set them by hand."
        )
    given = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or nodes
    if given != nodes:
        raise ConfigError(f"`hardware.nodes` is {nodes}, but {given} nodes were started. Try: hardware.nodes={given}")
    node, address, port = found.values()
    if not (node.isdecimal() and port.isdecimal() and int(node) < hardware.nodes):
        raise ConfigError(
            f"NODE_RANK={node} and MASTER_PORT={port} in the environment must be whole numbers, "
            f"the first below {nodes}."
        )
    return Place(int(node), address, int(port))


class Nodes:
    """The other nodes, for the first one; without a store there are none."""

    def __init__(self, store: "TCPStore | None" = None, address: str | None = None, prefix: str = "") -> None:
        self.address = address
        self._store, self._prefix, self._calls = store, prefix, 0

    def call(self, message: dict[str, Any]) -> None:
        """Have every other node join the group that `message` describes."""
        if self._store is not None:
            self._store.set(f"{self._prefix}/{self._calls}", json.dumps(message))
            self._calls += 1


ALONE = Nodes()


@contextmanager
def gathered(hardware: HardwareConfig, session: str, join: Callable[[Path, Place], object]) -> Iterator[Nodes | None]:
    """Yield `Nodes` on the first node; on the others None, after they have joined all groups of the first one's block.

    Args:
        session: identifies this meeting among those of a sweep.
        join: called on the other nodes with the job file of a group and the place of its ranks.

    Raises:
        ConfigError: the environment lacks the address.
        LaunchError: a node did not come, or the first one has ended.
    """
    if hardware.nodes == 1:
        yield ALONE
        return
    from torch.distributed import DistError

    meeting = find_place(hardware, os.environ)
    store, calls = _meet(meeting, hardware.nodes, session), 0
    if meeting.node > 0:
        try:
            while "end" not in (message := _listen(store, f"{session}/{calls}")):
                calls += 1
                join(Path(message["job"]), replace(meeting, port=message["port"]))
        finally:
            with suppress(DistError):  # the first node may have ended
                store.set(f"{session}/bye/{meeting.node}", "")
        yield None
        return
    nodes = Nodes(store, meeting.address, session)
    try:
        yield nodes
    finally:
        nodes.call({"end": True})
        try:  # the store must stay open until the others have read this
            store.wait([f"{session}/bye/{node}" for node in range(1, hardware.nodes)], GOODBYE)
        except DistError:
            log.warning("not every other node has answered at the end")


def _meet(meeting: Place, nodes: int, session: str) -> "TCPStore":
    from torch.distributed import DistError, TCPStore

    log.info("meets    %d nodes at %s:%d, as node %d", nodes, meeting.address, meeting.port, meeting.node)
    try:
        is_host = meeting.node == 0
        store = TCPStore(meeting.address, meeting.port, None, is_host, timeout=GATHERING, wait_for_workers=False)
        store.set(f"{session}/here/{meeting.node}", "")
        store.wait([f"{session}/here/{node}" for node in range(nodes)], GATHERING)
    except DistError as error:
        raise LaunchError(
            f"the {nodes} nodes did not meet at {meeting.address}:{meeting.port} within {GATHERING}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return store


def _listen(store: "TCPStore", key: str) -> dict[str, Any]:
    """Wait for the first node's next message."""
    from torch.distributed import DistError, DistNetworkError

    while True:
        try:
            store.wait([key], LISTENING)
            message: dict[str, Any] = json.loads(store.get(key))
            return message
        except DistNetworkError as error:
            raise LaunchError("the first node is gone; its own message says why.") from error
        except DistError:
            continue  # nothing yet
