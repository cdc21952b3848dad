"""As much of wandb's server as a run needs to begin and to send its curves, since wandb's own comes as a container.

`python wandb_server.py PORT FILE [refuse]` notes in FILE what arrives; with `refuse` it knows no key.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENTITY = {"id": "entity", "name": "somebody"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if REFUSES:
            self._answer(401, {"errors": [{"message": "user is not logged in"}]})
        elif self.path.endswith("/file_stream"):
            with FILE.open("ab") as file:
                file.write(body + b"\n")
            self._answer(200, {"limits": {}})
        else:
            request = json.loads(body)
            self._answer(200, {"data": answer(request["query"], request.get("variables") or {})})

    do_PUT = do_POST

    def _answer(self, code: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def answer(query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """What wandb's GraphQL says to a run that begins; to all else it has nothing to say."""
    if "upsertBucket" in query:
        project = {"id": "project", "name": variables.get("project") or "sacpo_exp", "entity": ENTITY}
        run = {"id": "run", "name": variables.get("name"), "displayName": variables.get("name"), "config": "{}"}
        return {"upsertBucket": {"bucket": run | {"project": project, "historyLineCount": 0}, "inserted": True}}
    if "createRunFiles" in query:
        return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": []}}
    if "viewer" in query:
        viewer = {"id": "viewer", "entity": "somebody", "username": "somebody", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}}, "serverInfo": {"cliVersionInfo": None}}
    return {}


if __name__ == "__main__":
    FILE, REFUSES = Path(sys.argv[2]), "refuse" in sys.argv[3:]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
