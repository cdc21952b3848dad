"""Compare two commits by the losses of all stages and the point estimates of the report that the same commands give.

    python tests/golden/compare.py FILE     # in a checkout of each commit: run the commands and record the numbers
    python tests/golden/compare.py OLD NEW  # compare two records; exit code 1 if anything differs

Weights of two commits need not be equal to the last bit: sums in another order move them, and with them a response here
or there. So losses may differ by `LOSS`, and win rates, shares and nats by `ESTIMATE`.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = os.environ.get("MODEL", "nano")  # tiny, for a trial of this script
#: Commands, which share one store, so that later ones reuse earlier stages.
RUNS = """train merge_ratio=0.5
train base=none
train adapter=lora
train objective=kto
train objective=dpo_then_kto
train order=safety_first objective=kto
train order=safety_first
train merge=naive merge_ratio=0.25
eval policies=all merge_ratio=0.5
eval policies=all order=safety_first
eval policies=all objective=kto matches=all_pairs
report"""
LOSS, ESTIMATE = 1e-3, 0.05
ESTIMATES = ("win_rate", "acceptable", "refusal_rate_benign", "refusal_rate_risky", "kl_nats", "_difference")


def record() -> dict[str, float]:
    """Run the commands of the checkout in this folder, and return its losses and estimates by name."""
    numbers = {}
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | os.environ | {"PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryDirectory() as outputs:
        for line in RUNS.splitlines():
            print(line, flush=True)
            entry, *overrides = f"{line} model={MODEL} paths.outputs={outputs}".split()
            command = [sys.executable, "-m", f"sacpo_exp.{entry}", *overrides]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path(outputs).glob("store/stage/*/manifest.json")):
            stage = path.parent.name.rsplit("-", 1)[0]  # without the hash, which a commit may change
            metrics = json.loads(path.read_text("utf-8"))["metrics"].items()
            numbers |= {f"{stage}: {name}": value for name, value in metrics if name.endswith("loss")}
        for table in ("table", "differences"):
            with (Path(outputs) / "report" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
                for place, row in enumerate(csv.DictReader(file)):
                    found = {name: text for name, text in row.items() if name.endswith(ESTIMATES) and text}
                    numbers |= {f"{table} {place}, {row['policy']}: {name}": float(found[name]) for name in found}
    return numbers


def main(old: Path, new: Path | None = None) -> int:
    if new is None:
        old.write_text(json.dumps(record(), indent=1), "utf-8")
        return 0
    before, after = (json.loads(path.read_text("utf-8")) for path in (old, new))
    names = before.keys() | after.keys()
    far = sorted(name for name in names if not is_near(name, before.get(name), after.get(name)))
    print(*(f"{name}: {before.get(name)} became {after.get(name)}" for name in far), sep="\n")
    print(f"{len(names)} numbers compared: {len(far)} differ")
    return 1 if far else 0


def is_near(name: str, old: float | None, new: float | None) -> bool:
    return None not in (old, new) and abs(old - new) <= (LOSS if name.endswith("loss") else ESTIMATE)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
