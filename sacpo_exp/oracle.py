"""`sacpo oracle`: does training find the optimum of a world in which it is known?"""

from sacpo_exp.config.loading import run_command
from sacpo_exp.config.oracle import OracleConfig
from sacpo_exp.studies.oracle.experiment import experiment, write_results
from sacpo_exp.studies.oracle.summary import format_results


def main() -> None:
    run_command("oracle", OracleConfig, consult)


def consult(config: OracleConfig) -> None:
    """Train what is not stored, print every policy beside its exact optimum, and write `<outputs>/oracle`."""
    results = experiment(config)
    print(format_results(results))
    for path in write_results(config, results):
        print(path)


if __name__ == "__main__":
    main()
