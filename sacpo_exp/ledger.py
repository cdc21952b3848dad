"""`sacpo ledger stats|reparse|export FILE|import FILE|agreement FILE`: look after paid judgments."""

import argparse
from collections import Counter
from pathlib import Path

from sacpo_exp.errors import ConfigError, MissingArtifactError, run_reporting_errors
from sacpo_exp.evaluation.ledger.ledger import Ledger
from sacpo_exp.evaluation.ledger.records import State

NAME = "ledger.sqlite"


def main() -> None:
    parser = argparse.ArgumentParser(prog="sacpo ledger", description="Look after paid judgments.")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs (default: outputs)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stats", help="what was asked of whom, what came of it, and how many tokens it took")
    commands.add_parser("reparse", help="read the recorded texts again with today's parser; asks nobody")
    export = commands.add_parser("export", help="write every judgment to a file")
    export.add_argument("file", type=Path, metavar="FILE", help=".jsonl or .jsonl.gz")
    bring = commands.add_parser("import", help="add the judgments of an export; what is there already stays")
    bring.add_argument("file", type=Path, metavar="FILE", help=".jsonl or .jsonl.gz")
    agree = commands.add_parser("agreement", help="of judges with people: rate and Cohen's kappa")
    agree.add_argument("file", metavar="FILE", help="with people's preferences (PKU-SafeRLHF), or with both columns")
    agree.add_argument("--ours", metavar="COLUMN", help="labels of the judge (default: those of the ledger)")
    agree.add_argument("--theirs", metavar="COLUMN", help="labels of people, together with --ours")
    for command in commands.choices.values():  # so that it may stand on either side of the command
        command.add_argument("--outputs", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run_reporting_errors(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Carry out one parsed command."""
    path = arguments.outputs / NAME
    if arguments.command == "agreement" and (arguments.ours or arguments.theirs):
        show_columns(arguments.file, arguments.ours, arguments.theirs)
    elif arguments.command == "import":
        bring_in(path, arguments.file)
    elif not path.exists():
        raise MissingArtifactError(f"There is no ledger at {path}: no judge has been asked. Try: --outputs DIR")
    elif arguments.command == "stats":
        show_stats(path)
    elif arguments.command == "reparse":
        reparse(path)
    elif arguments.command == "export":
        export_all(path, arguments.file)
    else:
        show_agreement(path, arguments.file)


def show_stats(path: Path) -> None:
    """Print one block per judge and criterion, then the size."""
    with Ledger(path) as ledger:
        for entry in ledger.summarise():
            states = ", ".join(f"{entry.states.get(state, 0)} {state}" for state in State)
            print(f"{entry.model} at {entry.base_url}, {entry.criterion}")
            print(f"  judgments {states}")
            print(f"  tokens    {entry.prompt_tokens} prompt ({entry.cached_tokens} of them cached), ", end="")
            print(f"{entry.completion_tokens} completion; {entry.attempts} calls")
            print(f"  dates     {entry.first or 'unknown'} to {entry.last or 'unknown'}")
    size = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.is_file())
    print(f"{size / 1e6:.1f} MB in {path}")


def reparse(path: Path) -> None:
    """Derive every state from the recorded text; print what has changed."""
    from sacpo_exp.evaluation.judges.parsing import read_state

    with Ledger(path) as ledger:
        counts = ledger.reparse(read_state)
    for (old, new), n in sorted(counts.items()):
        if old != new:
            print(f"{n:>8} {old} -> {new}")
    changed = sum(n for (old, new), n in counts.items() if old != new)
    print(
        f"{changed} of {counts.total()} judgments with an answer changed; the same eval command draws the conclusions"
    )


def export_all(path: Path, file: Path) -> None:
    """Write the export."""
    from sacpo_exp.evaluation.ledger.transfer import export_judgments

    with Ledger(path) as ledger:
        print(f"{export_judgments(ledger, file)} judgments in {file}")


def bring_in(path: Path, file: Path) -> None:
    """Add an export to the ledger, which is made if there is none."""
    from sacpo_exp.evaluation.ledger.transfer import import_judgments

    if not file.is_file():
        raise ConfigError(f"There is no file {file} to import.")
    with Ledger(path) as ledger:
        counts = import_judgments(ledger, file)
    print(f"{counts['added']} added, {counts['completed']} that had failed completed, {counts['kept']} were there")


def show_columns(file: str, ours: str | None, theirs: str | None) -> None:
    """Print the agreement of two columns of a file."""
    from sacpo_exp.evaluation.ledger.agreeing import read_columns

    if not (ours and theirs):
        raise ConfigError("--ours and --theirs belong together: the columns of the judge's labels and of people's.")
    labels = read_columns(file, ours, theirs)
    print(f"{file}: {ours} beside {theirs}")
    show_labels(labels.pairs, 0, labels.without)


def show_agreement(path: Path, file: str) -> None:
    """Print the agreement of every judge in the ledger with the preferences in a file."""
    from sacpo_exp.evaluation.ledger.agreeing import match_judgments, read_preferences

    rows = read_preferences(file)
    with Ledger(path) as ledger:
        found = match_judgments(rows, ledger.judgments())
    for (judge, criterion), labels in found.items():
        print(f"{judge}: {criterion} of {len(rows)} rows")
        show_labels(labels.pairs, labels.ties, labels.without)
    if not found:
        print(f"none of the {len(rows)} rows of {file} is in {path}: no judge was asked about these texts")


def show_labels(pairs: list[tuple[str, str]], ties: int, without: Counter[str]) -> None:
    """Print rate, κ, the counts behind them, and what was left out."""
    from sacpo_exp.statistics.agreement import measure_agreement

    confidence = 0.95
    rate, kappa = measure_agreement([own for own, _ in pairs], [other for _, other in pairs], confidence)
    for name, estimate in (("agreement", rate), ("Cohen's κ", kappa)):
        interval = f"{confidence:.0%} interval {estimate.low:.3f} to {estimate.high:.3f}"
        print(f"  {name} {estimate.value:.3f}, {interval}, n = {estimate.n}")
    for (own, other), n in Counter(pairs).most_common():
        print(f"  {n:>8} ours {own}, theirs {other}")
    for reason, n in [("ties, left out", ties), *sorted(without.items())]:
        if n:
            print(f"  {n:>8} {reason}")


if __name__ == "__main__":
    main()
