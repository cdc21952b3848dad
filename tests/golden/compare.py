"""Compare two commits: the weights of every stage and merge of a list of runs, and the numbers of their report.

    python tests/golden/compare.py OLD [NEW]

Both commits run the same commands on this machine, one thread each, in checkouts of their own. Weights have to be equal
to the last bit (SHA-256 of the safetensors), numbers of the report to 1e-6. Ids may differ, and so may the names of
columns: columns that only one commit has are listed, not compared. NEW is the working tree unless given. What a commit
gave is kept below --work, so that a second comparison with it runs half as long. Exit code 1 if anything differs.
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
#: Name of each run and the commands that it is; all share one store, so that later runs reuse earlier stages.
RUNS = {
    "helpful_first dpo": ["train"],
    "safety_first dpo": ["train order=safety_first"],
    "helpful_first kto": ["train objective=kto"],
    "safety_first kto": ["train order=safety_first objective=kto"],
    "helpful_first dpo_then_kto": ["train objective=dpo_then_kto"],
    "base=none": ["train base=none"],
    "adapter=lora": ["train adapter=lora"],
    "p_sacpo": ["train merge_ratio=0.5"],
    "naive": ["train merge=naive merge_ratio=0.25"],
    "evaluation": [
        "eval policies=all merge_ratio=0.5",
        "eval policies=all order=safety_first",
        "eval policies=all objective=kto matches=all_pairs",
    ],
}
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000", "PYTHONHASHSEED": "0"}
TOLERANCE = 1e-6
#: Parts of names of columns that have other names since; the old ones are read as the new ones.
RENAMED = {"harmlessness": "safety", "first_beta": "beta_first", "safe_rate": "safety_acceptable"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", help="a commit; the working tree if not given")
    parser.add_argument("--model", default="nano", help="nano, or tiny for a trial of this script")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="RUN")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "sacpo_golden")
    options = parser.parse_args()
    results = [record(commit, options) for commit in (options.old, options.new)]
    differences = compare(*results)
    for line in differences:
        print(line)
    count = sum(len(hashes) for hashes in results[0]["weights"].values())
    cells = sum(len(row) for row in results[0]["report"])
    print(f"{count} policies and {cells} cells of the report compared: {len(differences)} differences")
    return 1 if differences else 0


def record(commit: str | None, options: argparse.Namespace) -> dict:
    """What a commit gives: hashes of weights by run in order of making, and rows of the report."""
    if commit is None:
        return run_all(ROOT, options.work / "working_tree", options)
    sha = git("rev-parse", "--short=12", f"{commit}^{{commit}}")
    kept = (
        options.work / f"{sha}.{options.model}.{hashlib.sha256(' '.join(options.runs).encode()).hexdigest()[:8]}.json"
    )
    if not kept.is_file():
        checkout = options.work / sha
        if not checkout.is_dir():
            git("worktree", "add", "--detach", "--force", str(checkout), sha)
        try:
            found = run_all(checkout, options.work / f"{sha}.outputs", options)
        finally:
            git("worktree", "remove", "--force", str(checkout))
        kept.write_text(json.dumps(found, indent=1), "utf-8")
    found: dict = json.loads(kept.read_text("utf-8"))
    found["report"] = [{rename(name): cell for name, cell in row.items()} for row in found["report"]]
    return found


def run_all(checkout: Path, outputs: Path, options: argparse.Namespace) -> dict:
    outputs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=outputs) as folder:
        weights: dict[str, list[str]] = {}
        known: set[Path] = set()
        for name in options.runs:
            for command in RUNS[name]:
                entry, *overrides = command.split()
                print(f"{checkout.name}: {command}", flush=True)
                run(checkout, entry, f"model={options.model}", *overrides, f"paths.outputs={folder}")
            made = sorted(set(Path(folder, "store").glob("*/*/manifest.json")) - known, key=created)
            known |= set(made)
            weights[name] = [hash_weights(path.parent) for path in made if list(path.parent.glob("*.safetensors"))]
        if "evaluation" not in options.runs:
            return {"weights": weights, "report": []}
        run(checkout, "report", f"paths.outputs={folder}")
        return {"weights": weights, "report": read_report(Path(folder))}


def run(checkout: Path, entry: str, *overrides: str) -> None:
    environment = os.environ | THREADS | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", f"sacpo_exp.{entry}", *overrides]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def created(manifest: Path) -> str:
    return json.loads(manifest.read_text("utf-8"))["created"]


def hash_weights(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]


def read_report(outputs: Path) -> list[dict[str, str]]:
    """Rows of the report's tables of policies and of differences, in their order."""
    rows: list[dict[str, str]] = []
    for name in ("table.csv", "differences.csv"):
        with (outputs / "report" / name).open(encoding="utf-8", newline="") as file:
            rows += [{rename(name): cell for name, cell in row.items()} for row in csv.DictReader(file)]
    return rows


def rename(column: str) -> str:
    """Today's name of a column."""
    for old, new in RENAMED.items():
        column = column.replace(old, new)
    return column


def compare(old: dict, new: dict) -> list[str]:
    """A line per difference."""
    lines = []
    for name, hashes in old["weights"].items():
        if new["weights"].get(name) != hashes:
            lines.append(f"weights of {name}: {hashes} became {new['weights'].get(name)}")
    if len(old["report"]) != len(new["report"]):
        lines.append(f"the report has {len(new['report'])} rows instead of {len(old['report'])}")
    for number, (before, after) in enumerate(zip(old["report"], new["report"], strict=False)):
        for column in before.keys() & after.keys():
            if not equal(before[column], after[column]):
                lines.append(f"row {number}, {column}: {before[column]} became {after[column]}")
    if old["report"] and new["report"] and (odd := old["report"][0].keys() ^ new["report"][0].keys()):
        print(f"columns of one commit only: {', '.join(sorted(odd))}")
    return lines


def equal(before: str, after: str) -> bool:
    """Numbers to the tolerance; texts are not compared, since ids and names may change."""
    try:
        return abs(float(before) - float(after)) <= TOLERANCE
    except ValueError:
        return bool(before) == bool(after)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
