"""A whole Slurm on this machine: munge, MariaDB, slurmdbd, slurmctld and slurmd as children of one process, as root.

Everything lies in one folder and listens on loopback. Process groups stand for cgroups, which a container may not have.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from loopback import find_free_port, listens

from sacpo_exp.cluster.supervision import start_process

#: Debian's packages slurm-wlm, slurmdbd, mariadb-server and munge bring them.
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
NODE = "node"
CPUS = 2
PATIENCE = 60

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=10
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
NodeName={node}1 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd1} CPUs={cpus} State=UNKNOWN
NodeName={node}2 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd2} CPUs={cpus} State=UNKNOWN
PartitionName=one Nodes={node}1 Default=YES MaxTime=INFINITE State=UP
PartitionName=two Nodes={node}[1-2] MaxTime=INFINITE State=UP
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None if it can."""
    if missing := [name for name in DAEMONS if shutil.which(name) is None]:
        return f"Slurm is not installed ({', '.join(missing)}); `make test-all` does it on Debian, as root"
    return None if os.geteuid() == 0 else "a Slurm of one's own needs root"


class SlurmCluster:
    """Started by `with` in an empty folder with a short path; `environment` is what commands need to find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: Mapping[str, str] = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "SlurmCluster":
        try:
            self._write_settings()
            self._start_munge()
            self._start_accounting()
            self._start("slurmctld", "-D", "-i")
            for node in (1, 2):
                self._start("slurmd", "-D", "-N", f"{NODE}{node}", log=f"slurmd{node}")
            self._wait(
                "nodes", lambda: self.run("sinfo", "--noheader", "-N", "-p", "two", "-o", "%t").count("idle") == 2
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            ["scancel", "--user=root", "--signal=KILL"], env=self.environment, check=False, capture_output=True
        )
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, *command: str) -> str:
        """What a command of Slurm prints."""
        return subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True).stdout

    def release(self, job: str) -> None:
        """Have a requeued job start now; Slurm lets it wait two minutes for its old credentials to expire."""
        self._wait(
            f"requeued {job}", lambda: self.run("squeue", "--noheader", "-j", job, "-o", "%T").strip() == "PENDING"
        )
        command = ["scontrol", "update", f"jobid={job}", "starttime=now"]
        self._wait(f"release of {job}", lambda: subprocess.run(command, env=self.environment).returncode == 0)

    def _write_settings(self) -> None:
        ports = {name: find_free_port() for name in ("slurmctld", "slurmdbd", "slurmd1", "slurmd2", "mariadb")}
        self._mariadb_port, self._slurmdbd_port = ports["mariadb"], ports["slurmdbd"]
        values = {"folder": self.folder, "host": socket.gethostname(), "node": NODE, "cpus": CPUS, **ports}
        for name, text in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", SLURMDBD_CONF)):
            (self.folder / name).write_text(text.format(**values))
            (self.folder / name).chmod(0o600)
        for name in ("state", "spool-node1", "spool-node2", "mariadb"):
            (self.folder / name).mkdir()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        options = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
        self._start("munged", "--foreground", "--force", *options, f"--socket={self.folder}/munge.socket")
        self._wait("munge", (self.folder / "munge.socket").exists)

    def _start_accounting(self) -> None:
        data = f"--datadir={self.folder / 'mariadb'}"
        install = ["mariadb-install-db", "--no-defaults", "--user=root", "--auth-root-authentication-method=normal"]
        subprocess.run([*install, "--skip-test-db", data], check=True, capture_output=True)
        grants = self.folder / "grants.sql"
        grants.write_text("GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n")
        options = ["--no-defaults", "--user=root", data, "--bind-address=127.0.0.1", f"--port={self._mariadb_port}"]
        files = [f"--socket={self.folder / 'mariadb.socket'}", f"--pid-file={self.folder / 'mariadb.pid'}"]
        self._start("mariadbd", *options, *files, "--innodb-buffer-pool-size=64M", f"--init-file={grants}")
        self._wait("MariaDB", lambda: listens(self._mariadb_port))
        self._start("slurmdbd", "-D")
        self._wait("slurmdbd", lambda: listens(self._slurmdbd_port))
        self.run("sacctmgr", "--immediate", "add", "cluster", "test")

    def _start(self, *command: str, log: str | None = None) -> None:
        self._running.append(start_process(command, self.environment, self.folder / f"{log or command[0]}.out"))

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not is_there():
            dead = [process.args[0] for process in self._running if process.poll() is not None]  # type: ignore[index]
            if dead or time.monotonic() > end:
                logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.folder.glob("*.out"))
                raise RuntimeError(f"{what} did not come up (ended: {dead})\n{logs}")
            time.sleep(0.1)
