"""A real S3 server on loopback that checks secrets: nanio, with buckets as folders."""

import os
import subprocess
import sys
from pathlib import Path

from loopback import find_free_port, listens
from processes import wait_until

KEY, SECRET = "AKIATESTTESTTEST", "not-a-secret-of-anybody/0123456789"


class S3Server:
    """A server with one bucket below `data`; can be stopped and started again at the same address."""

    def __init__(self, data: Path) -> None:
        self.data = data
        (data / "bucket").mkdir(parents=True)
        self.port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What a user has in the environment."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": ""}
        return keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_EC2_METADATA_DISABLED": "true"}

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.data), "--log-level", "error", "--no-access-log"]
        keys = {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
        self._process = subprocess.Popen(command, env=os.environ | keys)
        wait_until(lambda: listens(self.port), self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
