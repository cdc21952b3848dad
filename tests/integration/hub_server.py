"""A stand-in for the hub that takes an upload by the hub's own client, on loopback."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loopback import JsonHandler, listen


class Hub:
    """Repositories by name, their visibility and the files of their only branch; `status` refuses everything."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.sha = "1" * 40
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.address = ""

    def answer(self, path: str, body: bytes) -> Any:
        """The reply to a request."""
        name = "/".join(path.split("?")[0].split("/")[3:5])
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.private.setdefault(name, wanted.get("private", wanted.get("visibility") == "private"))
            return {"url": f"{self.address}/{name}", "name": name}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if "/commit/" in path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": "1" * 40, "success": True}
        return {"id": name, "modelId": name, "private": self.private.get(name, False), "sha": self.sha, "siblings": []}


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Listen on a free port of loopback."""

    class Handler(JsonHandler):
        def reply(self) -> None:
            body = self.read_body()
            hub.tokens.add(self.headers.get("Authorization"))
            self.send(hub.status, hub.answer(self.path, body) if hub.status == 200 else {"error": "no"})

        do_GET = do_POST = reply

    with listen(Handler) as hub.address:
        yield hub
