"""The files of a report: each is written beside its place and renamed, so that none is ever there by half."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.config.schema import FigureForm
from sacpo_exp.reporting.cohort_csv import gaps_as_csv, seeds_as_csv
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.csv_files import (
    categories_as_csv,
    comparison_as_csv,
    conduct_as_csv,
    differences_as_csv,
    lengths_as_csv,
    policies_as_csv,
    ratings_as_csv,
)
from sacpo_exp.reporting.figures import draw_trade_off
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.reporting.page import write_page
from sacpo_exp.reporting.panels import draw_panels
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.table import format_cohort_markdown, format_markdown

PAGE = "report.html"
#: Files of a second and further group, and those that not every group has.
PASSING = re.compile(
    r"(table|differences|trade_off)-\d+\.(csv|md|png|svg)|(lengths|categories|judge|ratings|published)(-\d+)?\.csv"
    r"|panels(-\d+)?\.(pdf|png)"
    r"|(across|seeds|gaps)(-\d+)?\.(csv|md|png|svg)"
)


def write_report(
    scores: Sequence[GroupScores],
    cohorts: Sequence[Cohort],
    lineage: Lineage,
    folder: Path,
    form: FigureForm = FigureForm.screen,
) -> list[Path]:
    """Write the files of all groups, remove those of groups that are no longer shown, and return the paths written.

    `table.csv`, `table.md`, `differences.csv`, `trade_off.png` and `trade_off.svg`, and where there is something to say
    `lengths.csv`, `categories.csv`, `judge.csv` and `ratings.csv`, are about the first group; those about the second
    end in `-2`, and so on. `across.md`, `seeds.csv`, `seeds.png`, `seeds.svg` and `gaps.csv` are about the first cohort
    that has such numbers. `report.html` is about all of them. `panels.pdf` and `panels.png` are drawn for a paper, and
    where published numbers, which `published.csv` holds, stand beside ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [make_files(group_scores, form) for group_scores in scores]
    across = [make_cohort_files(cohort) for cohort in cohorts]
    files = _number(made, folder) | _number(across, folder)
    pictures = [contents.get("trade_off.svg", contents.get("seeds.svg")) for contents in (*made, *across)]
    files[folder / PAGE] = write_page(scores, cohorts, lineage, pictures)
    for path, content in files.items():
        _write_whole(path, content)
    for path in folder.iterdir():
        if PASSING.fullmatch(path.name) and path not in files:
            path.unlink(missing_ok=True)
    return list(files)


def _number(made: Sequence[dict[str, bytes]], folder: Path) -> dict[Path, bytes]:
    files = {}
    for number, contents in enumerate(made, start=1):
        for name, content in contents.items():
            stem, ending = name.split(".")
            files[folder / (name if number == 1 else f"{stem}-{number}.{ending}")] = content
    return files


def make_files(scores: GroupScores, form: FigureForm) -> dict[str, bytes]:
    """Name → content of the files about one group."""
    optional = {
        "lengths.csv": (scores.lengths, lengths_as_csv),
        "categories.csv": (scores.categories, categories_as_csv),
        "judge.csv": (scores.conduct, conduct_as_csv),
        "ratings.csv": (scores.ratings, ratings_as_csv),
        "published.csv": (scores.published, comparison_as_csv),
    }
    figures = {f"trade_off.{kind}": content for kind, content in draw_trade_off(scores).items()}
    if form is FigureForm.paper or scores.published:
        figures |= {f"panels.{kind}": content for kind, content in draw_panels(scores).items()}
    return {
        "table.csv": policies_as_csv(scores.policies).encode(),
        "table.md": format_markdown(scores).encode(),
        "differences.csv": differences_as_csv(
            scores.differences, [each.name for each in scores.group.criteria]
        ).encode(),
        **{name: write(rows).encode() for name, (rows, write) in optional.items() if rows},  # type: ignore[operator]
        **figures,
    }


def make_cohort_files(cohort: Cohort) -> dict[str, bytes]:
    """Name → content of the files about one cohort."""
    files = {"across.md": format_cohort_markdown(cohort).encode()}
    if cohort.means:
        files["seeds.csv"] = seeds_as_csv(cohort.means.policies).encode()
        files |= {f"seeds.{kind}": content for kind, content in draw_trade_off(cohort.means).items()}
    if cohort.gaps:
        files["gaps.csv"] = gaps_as_csv(cohort.gaps).encode()
    return files


def _write_whole(path: Path, content: bytes) -> None:
    # With the process id two reports at the same moment don't write into one another's file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
