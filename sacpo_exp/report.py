"""`sacpo report`: tables, figures, examples and a page over everything that has been evaluated."""

from pathlib import Path
from typing import TYPE_CHECKING

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.schema import ReportConfig
from sacpo_exp.config.tracking import TrackedRun
from sacpo_exp.tracking.runs import tracked

if TYPE_CHECKING:
    from sacpo_exp.reporting.cohorts import Cohort
    from sacpo_exp.reporting.scores import GroupScores


def main() -> None:
    run_command("report", ReportConfig, report)


def report(config: ReportConfig) -> None:
    """Print what is stored, group by group, and write it to `<outputs>/report`.

    Raises:
        ConfigError, DataError: `x` or `y` is no criterion here; published numbers are not there or of another form.
        MissingArtifactError: nothing has been evaluated, or nothing of what `config` asks for.
        StoreError: a stored file is damaged.
    """
    # Here, so that a mistake on the command line is reported before matplotlib is read.
    from sacpo_exp.reporting.against import add_comparison
    from sacpo_exp.reporting.cohorts import score_cohorts
    from sacpo_exp.reporting.collect import collect_groups
    from sacpo_exp.reporting.examples import format_examples
    from sacpo_exp.reporting.lineage import read_lineage
    from sacpo_exp.reporting.published.reading import read_published
    from sacpo_exp.reporting.scores import Settings, check_axes, score_group
    from sacpo_exp.reporting.table import format_cohort, format_report
    from sacpo_exp.statistics.intervals import Resampling
    from sacpo_exp.store import Store

    published = read_published(config.against, config.confidence) if config.against else None
    outputs, axes = Path(config.paths.outputs), (config.x, config.y)
    groups = collect_groups(store := Store(outputs / "store"), config.model, config.dataset)
    resampling = Resampling(config.bootstrap_rounds, config.confidence, config.seed, config.interval)
    check_axes(groups, axes)
    settings = Settings(resampling, config.max_missing, config.rating, axes)
    scores = [add_comparison(score_group(group, settings), published) for group in groups]
    cohorts = score_cohorts(scores, settings)
    print("\n".join([*map(format_report, scores), *map(format_cohort, cohorts)]))
    if examples := format_examples(groups[-1], config.examples, config.seed):
        print(examples)

    from sacpo_exp.reporting.files import write_report

    files = write_report(scores, cohorts, read_lineage(store), outputs / "report", config.figures)
    print(*files, sep="\n")
    if config.tracker.chosen():
        track_report(config, scores, cohorts, files)


def track_report(config: ReportConfig, scores: "list[GroupScores]", cohorts: "list[Cohort]", files: list[Path]) -> None:
    """Log the table over all policies and the figures as one run, the same for the same policies."""
    from sacpo_exp.reporting.summary import summarize_policies
    from sacpo_exp.store import content_hash

    columns, rows = summarize_policies(scores, cohorts)
    ids = sorted(policy.policy.id for group in scores for policy in group.policies)
    tags = sorted({str(row[columns.index(name)]) for row in rows for name in ("model", "dataset")} - {"None"})
    run = TrackedRun(
        f"report-{content_hash(ids)[:10]}", "report", tags, {"policies": ids}, dict.fromkeys(ids, "policy")
    )
    with tracked(config.tracker, run, config.paths.outputs) as tracking:
        tracking.log_table("policies", columns, rows)
        for path in (path for path in files if path.suffix == ".png"):
            tracking.log_figure(path.stem, path)
        tracking.is_complete = True


if __name__ == "__main__":
    main()
