"""`sacpo oracle`: does training find the optimum of a world in which it is known?"""

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.studies.oracle.experiment import experiment


def main() -> None:
    run_command("oracle", OracleConfig, run_oracle)


def run_oracle(config: OracleConfig) -> None:
    """Train the missing policies, print each beside its exact optimum, and write `<outputs>/oracle`."""
    results = experiment(config)
    from sacpo_exp.studies.oracle.results import format_results, write_results  # draws, which takes seconds to import

    print(format_results(results))
    for path in write_results(config, results):
        print(path)
