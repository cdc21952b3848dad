"""`sacpo ledger stats|export FILE`: look after paid judgments."""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

from sacpo_exp.errors import MissingArtifactError, run_reporting_errors
from sacpo_exp.evaluation.ledger import Ledger, export_judgments
from sacpo_exp.evaluation.records import State

COMMANDS = {
    "stats": "calls, states and tokens by judge and criterion",
    "export": "write every judgment to a file of one JSON object per line",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="sacpo ledger", description="Look after paid judgments.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs")
        if name == "export":
            command.add_argument("file", type=Path, metavar="FILE")
    run_reporting_errors(lambda: run(parser.parse_args()))


def run(arguments: argparse.Namespace) -> None:
    """Carry out one parsed command."""
    path = arguments.outputs / "ledger.sqlite"
    if not path.exists():
        raise MissingArtifactError(f"There is no ledger at {path}: no judge has been asked. Try: --outputs DIR")
    with Ledger(path) as ledger:
        if arguments.command == "stats":
            print_stats(ledger)
        else:
            print(f"{export_judgments(ledger, arguments.file)} judgments in {arguments.file}")


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
