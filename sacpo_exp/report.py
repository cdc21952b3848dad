"""`python -m sacpo_exp.report`: tables, figures, examples and a page over everything that has been evaluated."""

from pathlib import Path

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.schema import ReportConfig


def main() -> None:
    run_command("report", ReportConfig, report)


def report(config: ReportConfig) -> None:
    """Print what is stored, group by group, and write it to `<outputs>/report`.

    Raises:
        MissingArtifactError: nothing has been evaluated, or nothing of what `config` asks for.
        StoreError: a stored file is damaged.
    """
    # Here, so that a mistake on the command line is reported before matplotlib is read.
    from sacpo_exp.reporting.collect import collect_groups
    from sacpo_exp.reporting.examples import format_examples
    from sacpo_exp.reporting.scores import Settings, score_group
    from sacpo_exp.reporting.table import format_report
    from sacpo_exp.scoring.intervals import Resampling
    from sacpo_exp.store import Store

    outputs = Path(config.paths.outputs)
    store = Store(outputs / "store")
    groups = collect_groups(store, config.model, config.dataset)
    resampling = Resampling(config.bootstrap_rounds, config.confidence, config.seed, config.interval)
    settings = Settings(resampling, config.max_missing, config.rating)
    scores = [score_group(group, settings) for group in groups]
    for group_scores in scores:
        print(format_report(group_scores))
    if examples := format_examples(groups[-1], config.examples, config.seed):
        print(examples)

    from sacpo_exp.reporting.files import write_report
    from sacpo_exp.reporting.lineage import read_lineage

    print("\n".join(str(path) for path in write_report(scores, read_lineage(store), outputs / "report")))


if __name__ == "__main__":
    main()
