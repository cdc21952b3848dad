"""`python -m sacpo_exp.totals DIR…`: what the plans below these folders, written with `dry_run=true`, add up to."""

import argparse
from pathlib import Path

from sacpo_exp.errors import ConfigError, run_reporting_errors
from sacpo_exp.reporting.totals import describe_totals, read_plans


def main() -> None:
    run_reporting_errors(_print_totals)


def _print_totals() -> None:
    parser = argparse.ArgumentParser(prog="python -m sacpo_exp.totals", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of runs or sweeps with dry_run=true")
    folders: list[Path] = parser.parse_args().folders
    plans = read_plans(folders)
    if not plans:
        raise ConfigError(f"no plan in {', '.join(map(str, folders))}. Try: sacpo eval dry_run=true")
    for line in describe_totals(plans):
        print(line)


if __name__ == "__main__":
    main()
