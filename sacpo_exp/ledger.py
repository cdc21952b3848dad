"""`sacpo ledger stats|export FILE|import FILE`: look after paid judgments."""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

from sacpo_exp.errors import ConfigError, MissingArtifactError, run_reporting_errors
from sacpo_exp.evaluation.ledger import Ledger, export_judgments, import_judgments
from sacpo_exp.evaluation.records import State

COMMANDS = {
    "stats": "calls, states and tokens by judge and criterion",
    "export": "write every judgment to a .jsonl or .jsonl.gz file",
    "import": "add the judgments of an export; those that are there stay",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="sacpo ledger", description="Look after paid judgments.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs")
        if name in ("export", "import"):
            command.add_argument("file", type=Path, metavar="FILE")
    run_reporting_errors(lambda: run(parser.parse_args()))


def run(arguments: argparse.Namespace) -> None:
    """Carry out one parsed command."""
    path = arguments.outputs / "ledger.sqlite"
    if arguments.command == "import" and not arguments.file.is_file():
        raise ConfigError(f"There is no file {arguments.file} to import.")
    if arguments.command != "import" and not path.exists():
        raise MissingArtifactError(f"There is no ledger at {path}: no judge has been asked. Try: --outputs DIR")
    with Ledger(path) as ledger:
        if arguments.command == "stats":
            print_stats(ledger)
        elif arguments.command == "export":
            print(f"{export_judgments(ledger, arguments.file)} judgments in {arguments.file}")
        else:
            counts = import_judgments(ledger, arguments.file)
            print(f"{counts['added']} added, {counts['completed']} that had failed completed, {counts['kept']} kept")


def print_stats(ledger: Ledger) -> None:
    """Print one block per judge and criterion."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in ledger.judgments():
        names = ("prompt_tokens", "cached_tokens", "completion_tokens", "attempts")
        used = {name: getattr(answer, name) or 0 for name in names}
        counts[f"{question.model} at {question.base_url}, {question.criterion}"].update({answer.state: 1} | used)
    for judge, total in sorted(counts.items()):
        print(f"{judge}\n  judgments {', '.join(f'{total[state]} {state}' for state in State)}")
        tokens = f"{total['prompt_tokens']} prompt ({total['cached_tokens']} of them cached)"
        print(f"  tokens    {tokens}, {total['completion_tokens']} completion; {total['attempts']} calls")
