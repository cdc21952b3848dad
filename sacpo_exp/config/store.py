"""Where artifacts are kept besides this machine, and how the ledger is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
PASSWORD: Final = re.compile("://[^@]*:[^@]*@")  # a secret key may hold slashes
EXAMPLES: Final = "store.mirror=s3://BUCKET/PREFIX or store.mirror=file:///DIR"


@dataclass
class StoreConfig:
    """`mirror` is any address that fsspec reads; who may use it, and at which server, stands in the environment."""

    mirror: str | None = None


class Journal(Enum):
    """How SQLite protects the ledger's file while it is written."""

    wal = "wal"  # faster; between processes of one machine only
    delete = "delete"  # right on shared file systems too, if locks hold there


@dataclass
class LedgerConfig:
    """`journal` null: `delete` where the ledger lies on a file system that is known to be shared, else `wal`."""

    journal: Journal | None = None


def check_mirror(url: str, key: str = "`store.mirror`") -> Iterator[str]:
    """What can be seen to be wrong with a mirror's address alone; one that holds a secret is not repeated."""
    if holds_secret(url):
        yield f"{key} must be an address without password or query: keys belong into the environment. Try: {EXAMPLES}"
    elif not ADDRESS.fullmatch(url):
        yield f"{key} must be an address, but is {url!r}. Try: {EXAMPLES}"


def holds_secret(url: str) -> bool:
    """Whether an address has a place where secrets stand: a password before the host, or a query."""
    return "?" in url or PASSWORD.search(url) is not None
