"""`sacpo import PATH …`: generations and judgments of the paper's code, as ours."""

import argparse
import logging
import shlex
from pathlib import Path

from sacpo_exp.errors import ConfigError, run_reporting_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="sacpo import",
        description="Bring in what the paper's code (https://github.com/line/sacpo) has generated and judged.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a generation or judgment file, or a folder of them; all at once"
    )
    parser.add_argument("--judge", metavar="NAME", default="imported", help="who judged (default: imported)")
    parser.add_argument("--baseline", metavar="MODEL", help="that win rates are against (default: who met all others)")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="as paths.outputs (default: outputs)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_reporting_errors(lambda: import_results(**vars(arguments)))


def import_results(paths: list[str], judge: str, baseline: str | None, outputs: Path) -> None:
    """Store what the files hold, and print what came of it; what is stored already stays as it is.

    Raises:
        ConfigError: the baseline is not clear.
        DataError: a file can't be used, and in which rows.
    """
    from sacpo_exp.config.loading import quote
    from sacpo_exp.evaluation.entrants import store_responses
    from sacpo_exp.store import Store
    from sacpo_exp.studies.importing.files import read_results
    from sacpo_exp.studies.importing.joining import find_baseline, gather_answers, gather_meetings
    from sacpo_exp.studies.importing.storing import store_meetings
    from sacpo_exp.studies.importing.summary import summarise

    results, store = read_results(paths), Store(outputs / "store")
    answers = gather_answers(results)
    place = "" if outputs == Path("outputs") else f" paths.outputs={outputs}"
    if results.judgments:
        chosen = find_baseline(results.judgments, baseline)
        meetings = gather_meetings(results.judgments, chosen)
        print(summarise(store_meetings(store, answers, meetings, chosen, judge)))
        print(f"next       sacpo report{place}")
        return
    if baseline is not None:
        raise ConfigError("`--baseline` has no effect: there are no judgments. Try: leave it out, and give it to eval")
    entrants = [store_responses(store, said) for said in answers]
    for said, entrant in zip(answers, entrants, strict=True):
        print(f"responses  {len(said.responses):>5} of {said.name}, {entrant.folder}")
    folders = ",".join(quote(str(entrant.folder)) for entrant in entrants)
    named = shlex.join([f"responses=[{folders}]", f"baseline={quote(answers[0].name)}"])
    print(f"next       sacpo eval {named}{place}")


if __name__ == "__main__":
    main()
