"""Compare two commits: the weights of every stage and merge of a list of runs, and the numbers of their report.

    python tests/golden/compare.py OLD [NEW]

Both run the same commands on this machine, one thread each, in checkouts of their own; NEW is the working tree unless
given. Weights have to be equal to the last bit, numbers of the report to 1e-6; ids, and columns of one commit only, are
not compared. Exit code 1 if anything differs.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Commands, which share one store, so that later ones reuse earlier stages.
RUNS = [
    *("train", "train order=safety_first", "train objective=kto", "train order=safety_first objective=kto"),
    *("train objective=dpo_then_kto", "train base=none", "train adapter=lora", "train merge_ratio=0.5"),
    *(
        "train merge=naive merge_ratio=0.25",
        "eval policies=all merge_ratio=0.5",
        "eval policies=all order=safety_first",
    ),
    *("eval policies=all objective=kto matches=all_pairs", "report"),
]
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000", "PYTHONHASHSEED": "0"}
TOLERANCE = 1e-6

Found = tuple[dict[str, list[str]], list[dict[str, str]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", help="a commit; the working tree if not given")
    parser.add_argument("--model", default="nano", help="nano, or tiny for a trial of this script")
    options = parser.parse_args()
    old, new = (record(commit, options.model) for commit in (options.old, options.new))
    differences = compare(old, new)
    print(*differences, sep="\n")
    print(f"{sum(map(len, old[0].values()))} policies, {len(old[1])} rows compared: {len(differences)} differences")
    return 1 if differences else 0


def record(commit: str | None, model: str) -> Found:
    """Hashes of weights by command in order of making, and rows of the report."""
    with tempfile.TemporaryDirectory() as folder:
        if commit is None:
            return run_all(ROOT, Path(folder), model)
        checkout = Path(folder, "checkout")
        git("worktree", "add", "--detach", str(checkout), commit)
        try:
            return run_all(checkout, Path(folder), model)
        finally:
            git("worktree", "remove", "--force", str(checkout))


def run_all(checkout: Path, outputs: Path, model: str) -> Found:
    weights: dict[str, list[str]] = {}
    known: set[Path] = set()
    for command in RUNS:
        entry, *overrides = command.split()
        print(f"{checkout.name}: {command}", flush=True)
        given = [*([] if entry == "report" else [f"model={model}"]), *overrides, f"paths.outputs={outputs}"]
        environment = os.environ | THREADS | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, "-m", f"sacpo_exp.{entry}", *given], cwd=checkout, env=environment, check=True)
        made = set(outputs.glob("store/*/*/manifest.json")) - known
        known |= made
        in_order = sorted(made, key=lambda path: json.loads(path.read_text("utf-8"))["created"])
        files = [sorted(path.parent.glob("*.safetensors")) for path in in_order]
        weights[command] = [hash_files(each) for each in files if each]
    return weights, [row for name in ("table", "differences") for row in read_rows(outputs / "report" / f"{name}.csv")]


def hash_files(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()[:16]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare(old: Found, new: Found) -> list[str]:
    """A line per difference."""
    pairs = [(f"weights of {name}", hashes, new[0][name]) for name, hashes in old[0].items()]
    lines = [f"{name}: {before} became {after}" for name, before, after in pairs if before != after]
    if len(old[1]) != len(new[1]):
        lines.append(f"the report has {len(new[1])} rows instead of {len(old[1])}")
    for number, (before, after) in enumerate(zip(*(found[1] for found in (old, new)), strict=False)):
        for column in before.keys() & after.keys():
            if not is_equal(before[column], after[column]):
                lines.append(f"row {number}, {column}: {before[column]} became {after[column]}")
    return lines


def is_equal(before: str, after: str) -> bool:
    """Numbers to the tolerance; texts are not compared, since ids and names may change."""
    try:
        return abs(float(before) - float(after)) <= TOLERANCE
    except ValueError:
        return bool(before) == bool(after)


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)


if __name__ == "__main__":
    sys.exit(main())
