"""A stand-in for the hub that takes an upload by the hub's own client, on loopback."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization"))
            reply = hub.answer(self.path, body) if hub.status == 200 else {"error": "no"}
            data = json.dumps(reply).encode()
            self.send_response(hub.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = reply

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
