"""`sacpo report`: tables, figures and a page over everything that has been evaluated."""

from dataclasses import replace
from pathlib import Path

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.schema import ReportConfig
from sacpo_exp.errors import MissingArtifactError


def main() -> None:
    run_command("report", ReportConfig, report)


def report(config: ReportConfig) -> None:
    """Print what is stored, group by group, and write it to `<outputs>/report`.

    Raises:
        ConfigError, DataError: `x` or `y` is not a criterion; published numbers can't be read.
        MissingArtifactError: nothing has been evaluated, or nothing that `config` selects.
        StoreError: a stored file is damaged.
    """
    # Here, so that a mistake on the command line is reported before matplotlib is imported.
    from sacpo_exp.reporting.cohorts import score_cohorts
    from sacpo_exp.reporting.collect import collect_groups
    from sacpo_exp.reporting.preferences import collect_preferences
    from sacpo_exp.reporting.published import compare_with, read_published
    from sacpo_exp.reporting.scores import Settings, check_axes, score_group
    from sacpo_exp.reporting.tables import format_text
    from sacpo_exp.statistics.intervals import Resampling
    from sacpo_exp.store import Store

    published = read_published(config.against, config.confidence) if config.against else None
    outputs, axes = Path(config.paths.outputs), (config.x, config.y)
    resampling = Resampling(config.bootstrap_rounds, config.confidence, config.seed, config.interval)
    preferences = collect_preferences(store := Store(outputs / "store"), config.model, config.dataset, resampling)
    try:
        groups = collect_groups(store, config.model, config.dataset)
    except MissingArtifactError:
        if not preferences:
            raise
        groups = []  # of judge=none
    check_axes(groups, axes)
    settings = Settings(resampling, config.max_missing, config.rating, axes)
    scores = [score_group(group, settings) for group in groups]
    if published:
        scores = [replace(each, published=compare_with(each, published)) for each in scores]
    cohorts = score_cohorts(scores, settings)

    from sacpo_exp.reporting.files import make_cohort_part, make_group_part, make_preference_part, write_report
    from sacpo_exp.reporting.tracking import track_policies, track_report

    parts = [make_group_part(each, config.figures) for each in scores]
    parts += [*map(make_cohort_part, cohorts), *map(make_preference_part, preferences)]
    print("\n".join(format_text(part.heading, part.provenance, part.sections) for part in parts))
    lineage = {manifest.id: (folder, manifest) for folder, manifest in store.manifests()}
    files = write_report(parts, lineage, outputs / "report")
    print(*files, sep="\n")
    if config.tracker.chosen():
        track_policies(config.tracker, config.paths.outputs, store)
        track_report(config, scores, cohorts, files)


if __name__ == "__main__":
    main()
