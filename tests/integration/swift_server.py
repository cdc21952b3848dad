"""OpenStack Swift on this machine, speaking S3: a proxy with s3api and tempauth before one account, container and
object server each, as children of this process; one replica, rings and data in one folder, loopback only.
"""

import getpass
import os
import subprocess
import time
from functools import partial
from pathlib import Path

from s3_server import KEY, SECRET
from slurm_cluster import free_port, listens

from sacpo_exp.cluster.supervision import die_with_parent

#: Debian's package python3-swift is there for Debian's Python only.
PYTHON = "/usr/bin/python3"
PACKAGE = Path("/usr/lib/python3/dist-packages/swift")
#: Debian's eventlet sends an empty chunk after the head of an answer to HEAD that has no length, which strict clients
#: take for the next answer (github.com/eventlet/eventlet/issues/746): here such an answer gets its length.
RUN = """
import sys, eventlet.wsgi
from swift.common import utils, wsgi
serve = eventlet.wsgi.server
def serve_bodyless(sock, app, *arguments, **settings):
    def answer(environ, start_response):
        def start(status, headers, *error):
            is_bare = environ["REQUEST_METHOD"] == "HEAD" and "content-length" not in {n.lower() for n, _ in headers}
            return start_response(status, headers + [("Content-Length", "0")] * is_bare, *error)
        return app(environ, start)
    serve(sock, answer, *arguments, **settings)
eventlet.wsgi.server = serve_bodyless
utils.set_swift_dir(sys.argv[1])
sys.exit(wsgi.run_wsgi(*sys.argv[2:]))
"""
#: One partition on one device, once.
RINGS = """
import sys
from swift.common.ring import RingBuilder
for path, port in zip(sys.argv[1::2], sys.argv[2::2]):
    builder = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
    builder.add_dev(dict(region=1, zone=1, weight=1, ip="127.0.0.1", port=int(port), device="one"))
    builder.rebalance()
    builder.get_ring().save(path)
"""
BACKENDS = ("account", "container", "object")
PATIENCE = 60

SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = suffix
[storage-policy:0]
name = only
default = yes
"""

DEFAULT = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
"""

BACKEND = """
[pipeline:main]
pipeline = {role}-server
[app:{role}-server]
use = egg:swift#{role}
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth copy bulk slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nobody}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_test_{key} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def why_not() -> str | None:
    """Why no Swift can be started here; None if it can."""
    return None if PACKAGE.is_dir() else "Swift is not installed; `make test-all` does it on Debian, as root"


class SwiftServer:
    """Can be stopped and started again at the same address with the same data.

    Args:
        folder: empty, on a file system with extended attributes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {role: free_port() for role in (*BACKENDS, "proxy")}
        self._running: list[subprocess.Popen[bytes]] = []
        self._write_settings()

    @property
    def variables(self) -> dict[str, str]:
        """What a user has in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": f"test:{KEY}",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['proxy']}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SESSION_TOKEN": "",
        }

    def start(self) -> None:
        """Start all four, and wait until they listen."""
        for role in self._ports:
            with (self.folder / f"{role}.out").open("ab") as output:
                command = [PYTHON, "-c", RUN, str(self.folder), str(self.folder / f"{role}.conf"), f"{role}-server"]
                die = partial(die_with_parent, os.getpid())
                process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=die)
            self._running.append(process)
        end = time.monotonic() + PATIENCE
        while not all(listens(port) for port in self._ports.values()):
            if time.monotonic() > end or any(process.poll() is not None for process in self._running):
                logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.folder.glob("*.out"))
                self.stop()
                raise RuntimeError(f"Swift did not start\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill all four, as a machine that loses its power."""
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def _write_settings(self) -> None:
        (self.folder / "devices" / "one").mkdir(parents=True)
        (self.folder / "swift.conf").write_text(SWIFT_CONF)
        values = {"folder": self.folder, "user": getpass.getuser(), "key": KEY, "secret": SECRET, "nobody": free_port()}
        for role, port in self._ports.items():
            text = DEFAULT + (PROXY if role == "proxy" else BACKEND)
            (self.folder / f"{role}.conf").write_text(text.format(role=role, port=port, **values))
        rings = [str(part) for role in BACKENDS for part in (self.folder / f"{role}.ring.gz", self._ports[role])]
        subprocess.run([PYTHON, "-c", RINGS, *rings], check=True, capture_output=True)
