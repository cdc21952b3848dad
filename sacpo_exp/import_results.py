"""`sacpo import PATH …`: import judgments of the paper's code."""

import argparse
import logging
from pathlib import Path

from sacpo_exp.errors import run_reporting_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="sacpo import",
        description="Import what the paper's code (https://github.com/line/sacpo) has judged.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a judgment file, or a folder of them; all at once")
    parser.add_argument("--judge", metavar="NAME", default="imported", help="name of the judge (default: imported)")
    parser.add_argument("--baseline", metavar="MODEL", required=True, help="model that win rates are against")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs (default: outputs)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_reporting_errors(lambda: import_results(**vars(arguments)))


def import_results(paths: list[str], judge: str, baseline: str, outputs: Path) -> None:
    """Store the content of the files and print a summary; what is stored already is kept.

    Raises:
        ConfigError: no row is about the baseline.
        DataError: a file or a row of it can't be used.
    """
    from sacpo_exp.store import Store
    from sacpo_exp.studies.importing import read_results, store_matches, summarise

    matches = store_matches(Store(outputs / "store"), read_results(paths), baseline, judge)
    print("\n".join(summarise(matches)))
    place = "" if outputs == Path("outputs") else f" paths.outputs={outputs}"
    print(f"next       sacpo report{place}")
