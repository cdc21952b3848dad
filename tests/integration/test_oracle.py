"""The whole stack against a known optimum: composition, plan, data, store, TRL's trainers, merging, scoring.

Nats to the optimum after the second stage depend on the seed: helpfulness first 0.097 [0.072, 0.166] over seeds 0 to 3
(mean and range); safety first, with the fewer updates of `SHORT`, 0.083 for seed 0. So one seed has to stay below
`BOUND`, and the median of three, in a slow test, below `MEDIAN`. What broken stages reach with seed 0 and all updates,
helpfulness first and safety first: with the base model as the second stage's reference (and the check of the first loss
taken out, which stops such a stage) 0.155 and 3.43; with the first stage's KL strength in the second, where β or β/λ
belongs, 0.459 and 0.355, with `SHORT` 0.26; with chosen and rejected swapped 6.09 (helpfulness first only).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.studies.oracle.experiment import Results, experiment
from sacpo_exp.studies.oracle.results import format_results, write_results

#: Of the default command what is needed here; λ stays 2.
SMALL = ("pairs=[6000]", "multipliers=[]", "ratios=[0.5]", "seeds=[0]")
#: And of that, as little as both stages need to come near their optimum.
SHORT = (*SMALL, "samples=2000", "updates=100")
#: Nats. 200 exact fits to as many pairs are below 0.025 in 97.5 %.
BOUND, MEDIAN = 0.2, 0.1
ORDER = ("safety", "helpfulness")


@dataclass(frozen=True)
class Consulted:
    config: OracleConfig
    results: Results

    def find(self, order: tuple[str, ...], stage: str) -> dict[str, Any]:
        wanted = ("→".join(order), stage)
        (found,) = [each for each in self.results.findings if (each["order"], each["stage"]) == wanted]
        return found


@pytest.fixture(scope="module")
def consulted(configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Consulted:
    """Safety first: the order in which mistakes show most."""
    outputs = tmp_path_factory.mktemp("oracle")
    one_order = ("losses=[dpo]", "orders=[[safety,helpfulness]]")
    config = configure(*SHORT, *one_order, f"paths.outputs={outputs}", command="oracle")
    return Consulted(config, experiment(config))


def test_both_stages_find_their_optimum(consulted: Consulted) -> None:
    for stage in ("first", "second"):
        found = consulted.find(ORDER, stage)
        assert found["kl"] < BOUND, found
        assert found["kl"] < found["kl_start"] / 10, found
        assert found["kl"] < found["kl_bound"], found
        assert found["violation"] < found["violation_bound"], found


@pytest.mark.slow
def test_the_median_of_three_seeds_is_near_the_optimum(consulted: Consulted, configure: Callable[..., Any]) -> None:
    own = ("losses=[dpo]", "ratios=[]", "seeds=[0,1,2]", f"paths.outputs={consulted.config.paths.outputs}")
    results = experiment(configure(*SMALL[:2], *own, command="oracle"))
    frame = results.frame[results.frame["stage"] == "second"]
    assert (frame.groupby("order")["kl"].median() < MEDIAN).all(), frame
    (line,) = [line for line in format_results(results).splitlines() if "| helpfulness→safety | second" in line]
    kls = frame[frame["order"] == "helpfulness→safety"]["kl"]
    assert f"{kls.mean():.3f} [{kls.min():.3f}, {kls.max():.3f}]" in line


def test_the_base_has_learned_the_reference_policy(consulted: Consulted) -> None:
    assert consulted.results.nominal_kl[0] < 0.05


def test_a_merge_lies_between_the_policies_that_it_averages(consulted: Consulted) -> None:
    merged = consulted.find(ORDER, "merged")
    ends = [consulted.find(ORDER, stage)["E[helpfulness]"] for stage in ("first", "second")]
    assert min(ends) < merged["E[helpfulness]"] < max(ends)
    assert merged["kl"] < merged["kl_start"]


def test_asked_again_it_trains_nothing_and_says_the_same(consulted: Consulted) -> None:
    store = Path(consulted.config.paths.outputs) / "store"
    before = {path: path.stat().st_mtime_ns for path in store.glob("*/*/manifest.json")}
    again = experiment(consulted.config)
    assert {path: path.stat().st_mtime_ns for path in store.glob("*/*/manifest.json")} == before
    assert again.findings == consulted.results.findings


def test_the_results_are_written_whole(consulted: Consulted) -> None:
    results, table, text, *figures = write_results(consulted.config, consulted.results)
    written = json.loads(results.read_text("utf-8"))
    assert written["findings"] == consulted.results.findings
    assert len(table.read_text("utf-8").splitlines()) == 1 + len(consulted.results.findings)
    assert text.read_text("utf-8").count("| DPO |") == len(consulted.results.findings)  # one seed
    assert written["config"]["world"]["responses"] == 6
    assert written["world"]["values"]["safety"] == consulted.results.world.values["safety"].tolist()
    assert [path.read_bytes()[:8] for path in figures] == [b"\x89PNG\r\n\x1a\n"] * 2


@pytest.mark.slow
def test_the_command_runs_kto_too(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli(
        "oracle", *SMALL, "losses=[kto]", "orders=[[helpfulness,safety]]", "pairs=[500,1000]", "updates=20", "ratios=[]"
    )
    assert done.code == 0, done.stderr
    assert done.stdout.count("| KTO † | helpfulness→safety") == 4
    assert "λ* = " in done.stdout
    assert "Theorem 1 does not hold" in done.stdout
    assert len(list((tmp_path / "outputs" / "oracle").glob("*/results.json"))) == 1


@pytest.mark.slow
def test_three_criteria_reach_their_optimum_in_two_orders(configure: Callable[..., Any], tmp_path: Path) -> None:
    orders = "[[helpfulness,safety,honesty],[honesty,safety,helpfulness]]"
    three = ("criteria=[helpfulness,safety,honesty]", "multiplier=[2,1.5]", f"orders={orders}", "ratios=[]")
    own = ("losses=[dpo]", "pairs=[6000]", "multipliers=[]", "seeds=[0]", f"paths.outputs={tmp_path}")
    config = configure(*three, *own, command="oracle")
    results = experiment(config)
    last = [found for found in results.findings if found["stage"] == "third"]
    assert [found["order"] for found in last] == ["→".join(order) for order in config.orders]
    assert [found["kl_start"] for found in last] == pytest.approx([last[0]["kl_start"]] * 2)  # the same optimum
    # Ten such runs ended 0.005 to 0.13 of 4.3 nats away, see docs/oracle.md.
    assert all(found["kl"] < found["kl_start"] / 20 for found in last), last
    assert [path.read_bytes()[:4] for path in write_results(config, results)[-2:]] == [b"\x89PNG"] * 2
