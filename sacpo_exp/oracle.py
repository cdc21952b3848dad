"""`sacpo oracle`: does training find the optimum of a world in which it is known?"""

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.studies.oracle.experiment import experiment
from sacpo_exp.studies.oracle.tables import format_results, write_results


def main() -> None:
    run_command("oracle", OracleConfig, run_oracle)


def run_oracle(config: OracleConfig) -> None:
    """Train the missing policies, print each beside its exact optimum, and write `<outputs>/oracle`."""
    results = experiment(config)
    print(format_results(results))
    for path in write_results(config, results):
        print(path)


if __name__ == "__main__":
    main()
