"""`sacpo multiplier threshold=…`: λ*, with which the optimum keeps a constraint, and β/λ* for its stage."""

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.config.studies import MultiplierConfig
from sacpo_exp.evaluation.generation import check_engine
from sacpo_exp.pipeline import open_run
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.studies.multiplier import describe, estimate_multiplier, sample_values


def main() -> None:
    run_command("multiplier", MultiplierConfig, multiplier)


def multiplier(config: MultiplierConfig) -> None:
    """Sample responses of the base, estimate λ* from their values, and print it with its interval.

    Raises:
        ConfigError: no λ satisfies the threshold.
        MissingArtifactError: a policy has not been trained; this command trains none.
    """
    if not config.dry_run:
        check_engine(config.generation)
    run = open_run(config)
    if config.dry_run:
        print_plan(run)
        return
    check_devices(config.hardware)
    print("\n".join(describe(estimate_multiplier(sample_values(run, config), config), config)))
