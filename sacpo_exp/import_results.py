"""`sacpo import PATH …`: import generations and judgments of the paper's code."""

import argparse
import logging
import shlex
from pathlib import Path

from sacpo_exp.errors import ConfigError, run_reporting_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="sacpo import",
        description="Import what the paper's code (https://github.com/line/sacpo) has generated and judged.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a generation or judgment file, or a folder of them; all at once"
    )
    parser.add_argument("--judge", metavar="NAME", default="imported", help="name of the judge (default: imported)")
    parser.add_argument(
        "--baseline", metavar="MODEL", help="model that win rates are against (default: that met all others)"
    )
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs (default: outputs)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_reporting_errors(lambda: import_results(**vars(arguments)))


def import_results(paths: list[str], judge: str, baseline: str | None, outputs: Path) -> None:
    """Store the content of the files and print a summary; what is stored already is kept.

    Raises:
        ConfigError: the baseline is not clear.
        DataError: a file or a row of it can't be used.
    """
    from sacpo_exp.config.loading import quote
    from sacpo_exp.evaluation.contests import store_responses
    from sacpo_exp.store import Store
    from sacpo_exp.studies.importing import find_baseline, store_matches, summarise
    from sacpo_exp.studies.paper_files import gather_answers, read_results

    generations, judgments = read_results(paths)
    answers, store = gather_answers(generations, judgments), Store(outputs / "store")
    place = "" if outputs == Path("outputs") else f" paths.outputs={outputs}"
    if judgments:
        chosen = find_baseline(judgments, baseline)
        print(summarise(store_matches(store, answers, judgments, chosen, judge)))
        print(f"next       sacpo report{place}")
        return
    if baseline is not None:
        raise ConfigError("`--baseline` has no effect: there are no judgments. Try: leave it out, and give it to eval")
    entrants = [store_responses(store, each) for each in answers]
    for each, entrant in zip(answers, entrants, strict=True):
        print(f"responses  {len(each.responses):>5} of {each.name}, {entrant.folder}")
    folders = ",".join(quote(str(entrant.folder)) for entrant in entrants)
    named = shlex.join([f"responses=[{folders}]", f"baseline={quote(answers[0].name)}"])
    print(f"next       sacpo eval {named}{place}")
