"""A stand-in for the hub on loopback, which knows every repository and its only commit."""

from collections.abc import Iterator
from contextlib import contextmanager

from loopback import JsonHandler, listen


class Hub:
    """The commit that `main` of every repository points to, and the address of the server."""

    def __init__(self) -> None:
        self.sha, self.address = "1" * 40, ""


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Listen on a free port of loopback."""

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            name = "/".join(self.path.split("?")[0].split("/")[3:5])
            self.send(200, {"id": name, "modelId": name, "sha": hub.sha, "siblings": []})

    with listen(Handler) as hub.address:
        yield hub
