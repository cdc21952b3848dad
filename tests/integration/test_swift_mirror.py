"""The mirror on a second S3 server, of another kind: OpenStack Swift. What is asked of the first is asked of it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from swift_server import SwiftServer, why_not
from test_mirror import (  # noqa: F401
    SPEC,
    kill_when,
    machine,
    never,
    test_a_killed_upload_shows_nothing_and_is_finished_by_the_next_run,
    test_nothing_is_uploaded_or_downloaded_twice,
    test_two_machines_that_made_it_differently_never_mix,
    test_what_is_damaged_there_is_refused_made_here_and_put_right,
    test_what_one_machine_makes_the_other_finds,
)
from test_mirrored_run import (  # noqa: F401
    said,
    test_a_dry_run_says_where_things_are_and_moves_nothing,
    test_a_mistake_is_one_sentence,
    test_the_laptop_evaluates_what_the_cluster_trained,
)

from sacpo_exp.store import Store
from sacpo_exp.store.remote import Remote

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
#: More than s3fs sends at once: it goes in parts of 50 MB.
LARGE = 120_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A running Swift with an empty bucket."""
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    variables = server.variables
    keys = {"key": variables["AWS_ACCESS_KEY_ID"], "secret": variables["AWS_SECRET_ACCESS_KEY"]}
    fsspec.filesystem("s3", endpoint_url=variables["AWS_ENDPOINT_URL"], **keys).mkdir("bucket")
    yield server
    server.stop()


@pytest.fixture
def address(s3: str) -> str:
    return s3


def build_large(folder: Path) -> dict[str, Any]:
    for name in ("weights-1", "weights-2"):
        (folder / name).write_bytes(os.urandom(1_000_000) * (LARGE // 1_000_000))
    return {}


def test_a_file_in_parts_is_whole_or_not_there(
    server: SwiftServer,
    machine: Callable[[str], Store],  # noqa: F811
    address: str,
    tmp_path: Path,
) -> None:
    root = tmp_path / "a" / "store"
    before = count_objects(server)
    kill_when(lambda: count_objects(server) > before, root, address, build_large)  # the first part of the first file
    assert set(Remote(address).sizes("stage").values()) <= {LARGE}
    assert not machine("b").is_mirrored(SPEC)
    made = machine("a").get_or_build(SPEC, never)
    sizes = Remote(address).sizes("stage")
    assert sorted(size for name, size in sizes.items() if "/weights" in name) == [LARGE, LARGE]
    sent = (made / "weights-2").read_bytes()
    shutil.rmtree(root)
    assert (machine("a").get_or_build(SPEC, never) / "weights-2").read_bytes() == sent


def count_objects(server: SwiftServer) -> int:
    """Files that Swift's object server has whole, parts of larger ones too."""
    return sum(1 for _ in (server.folder / "devices" / "one" / "objects").rglob("*.data"))
