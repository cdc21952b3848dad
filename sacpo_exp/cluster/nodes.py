"""Several nodes, one group: every node runs the same command; the first plans and calls, the others join its groups.

They meet at the address that Slurm, torchrun or the user gives in the environment, and see one file system.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

log = logging.getLogger(__name__)

#: How long nodes wait for one another at the start; a batch system may start them minutes apart.
GATHERING = timedelta(minutes=10)
#: Between two looks whether the first node is still there.
LISTENING = timedelta(seconds=5)
#: How long the first node waits at the end.
GOODBYE = timedelta(seconds=30)
#: Ports where nobody has chosen one, from Slurm's job number.
PORTS = range(20000, 30000)


@dataclass(frozen=True)
class Rendezvous:
    """Which node this is, and where all meet; `is_host` says whether it opens the port itself."""

    node: int
    address: str
    port: int
    is_host: bool


def find_rendezvous(hardware: HardwareConfig, environment: Mapping[str, str]) -> Rendezvous:
    """Where the nodes meet, from the environment of torchrun, of Slurm, or NODE_RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        ConfigError: it is not said, or for another number of nodes.
    """
    node = _first(environment, "NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
    address = _first(environment, "MASTER_ADDR", "SLURM_LAUNCH_NODE_IPADDR")
    port = _first(environment, "MASTER_PORT") or _port_of_job(environment.get("SLURM_JOB_ID"))
    missing = [
        name for name, value in (("NODE_RANK", node), ("MASTER_ADDR", address), ("MASTER_PORT", port)) if not value
    ]
    if node is None or address is None or port is None:
        raise ConfigError(
            f"`hardware.nodes` is {hardware.nodes}, but the environment has no {' and no '.join(missing)}. Start the "
            "same command on every node by srun (launchers/slurm_train.sbatch) or torchrun, or set them by hand."
        )
    given = _first(environment, "GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_NNODES")
    if given is not None and given != str(hardware.nodes):
        raise ConfigError(
            f"`hardware.nodes` is {hardware.nodes}, but {given} nodes were started. Try: hardware.nodes={given}"
        )
    numbers = {"NODE_RANK": node, "MASTER_PORT": port}
    if wrong := [f"{name}={value}" for name, value in numbers.items() if not value.isdecimal()]:
        raise ConfigError(f"{wrong[0]} in the environment must be a whole number.")
    if int(node) >= hardware.nodes:
        raise ConfigError(
            f"NODE_RANK in the environment must be below `hardware.nodes` = {hardware.nodes}, but is {node}."
        )
    is_agents = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Rendezvous(int(node), address, int(port), is_host=int(node) == 0 and not is_agents)


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _port_of_job(job: str | None) -> str | None:
    return str(PORTS[int(job) % len(PORTS)]) if job and job.isdecimal() else None


class Nodes:
    """The other nodes, seen from the first; without a store there are none."""

    def __init__(self, store: "TCPStore | None" = None, address: str | None = None, prefix: str = "") -> None:
        self.address = address
        self._store, self._prefix, self._calls = store, prefix, 0

    def call(self, message: dict[str, Any]) -> None:
        """Have every other node join what `message` describes."""
        if self._store is not None:
            self._store.set(f"{self._prefix}/{self._calls}", json.dumps(message))
            self._calls += 1


ALONE = Nodes()


@contextmanager
def gathered(
    hardware: HardwareConfig, session: str, join: Callable[[Rendezvous, Path, int], None]
) -> Iterator[Nodes | None]:
    """On the first node, the others to be called in the block; on those None, after they have joined what they were.

    Args:
        session: what this meeting is about, so that those of a sweep are not taken for one another.
        join: takes part, on another node, in the group of a job file that listens at a port.

    Raises:
        ConfigError: the environment does not say where to meet.
        LaunchError: a node did not come, or the first one is gone.
    """
    if hardware.nodes == 1:
        yield ALONE
        return
    meeting = find_rendezvous(hardware, os.environ)
    prefix = f"{session}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    store = _meet(meeting, hardware.nodes, prefix)
    if meeting.node > 0:
        try:
            _serve(store, meeting, prefix, join)
        finally:
            _say(store, f"{prefix}/bye/{meeting.node}")
        yield None
        return
    nodes = Nodes(store, meeting.address, prefix)
    try:
        yield nodes
    finally:
        nodes.call({"end": True})
        _wait_for_goodbyes(store, [f"{prefix}/bye/{node}" for node in range(1, hardware.nodes)])


def _meet(meeting: Rendezvous, nodes: int, prefix: str) -> "TCPStore":
    from torch.distributed import DistError, TCPStore

    log.info("meets    %d nodes at %s:%d, as node %d", nodes, meeting.address, meeting.port, meeting.node)
    try:
        store = TCPStore(
            meeting.address, meeting.port, None, meeting.is_host, timeout=GATHERING, wait_for_workers=False
        )
        store.set(f"{prefix}/here/{meeting.node}", "")
        store.wait([f"{prefix}/here/{node}" for node in range(nodes)], GATHERING)
    except DistError as error:
        raise LaunchError(
            f"the {nodes} nodes did not meet at {meeting.address}:{meeting.port} within {GATHERING}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return store


def _serve(store: "TCPStore", meeting: Rendezvous, prefix: str, join: Callable[[Rendezvous, Path, int], None]) -> None:
    calls = 0
    while "end" not in (message := _listen(store, f"{prefix}/{calls}")):
        calls += 1
        join(meeting, Path(message["job"]), message["port"])


def _listen(store: "TCPStore", key: str) -> dict[str, Any]:
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


def _say(store: "TCPStore", key: str) -> None:
    """Tell the first node, if it is still there."""
    from torch.distributed import DistError

    with suppress(DistError):
        store.set(key, "")


def _wait_for_goodbyes(store: "TCPStore", keys: list[str]) -> None:
    """Keep the store open until the others have heard that this was all."""
    from torch.distributed import DistError

    try:
        store.wait(keys, GOODBYE)
    except DistError:
        log.warning("not every other node has said good-bye")
