"""Write files so that neither a kill nor a power cut leaves a part of one."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write the file beside its place and rename it; only one process at a time may write the same file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, "utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems can't sync folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
