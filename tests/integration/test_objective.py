"""`objective_metric`: a judged number of the last policy, for Hydra's sweepers and for wandb's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import finish, run_fork
from tiny import SCORER, TINY, make_config, share
from tracked_commands import of_type, read_run, run_folders, start

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.eval import evaluate
from sacpo_exp.pipeline import open_run
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.scores import score_policy
from sacpo_exp.reporting.tracking import SETTINGS

PLAN = ("base=none", "order=safety_only", "merge_ratio=null")
#: Writes what each job returns, as a sweeper gets it.
LISTENER = """
from hydra.experimental.callback import Callback
class Listener(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        open("returned", "a").write(f"{job_return.return_value}\\n")
"""


@pytest.fixture(scope="module")
def outputs(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two trained policies."""
    folder = tmp_path_factory.mktemp("objective")
    for beta in ("0.1", "0.2"):
        share(outputs, folder, *PLAN, f"beta={beta}")
    return folder


def configure(outputs: Path, *overrides: str) -> EvalConfig:
    return make_config(outputs, *PLAN, *overrides)


def test_a_sweeper_gets_the_number_of_each_job(outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listener.py").write_text(LISTENER, "utf-8")
    listener = "+hydra.callbacks.listener._target_=listener.Listener"
    monkeypatch.syspath_prepend(tmp_path)
    given = [*PLAN, *TINY, *SCORER, f"paths.outputs={outputs}", listener, "objective_metric=eval/kl_nats"]
    run_fork(tmp_path, "eval", "-m", *given, "beta=0.1,0.2")
    (group,) = collect_groups(open_run(configure(outputs)).store, None, None)
    rows = {each.beta: score_policy(each, SETTINGS).estimates["kl_nats"].value for each in group.policies}
    returned = [float(line) for line in (tmp_path / "returned").read_text().splitlines()]
    assert returned == [rows[0.1], rows[0.2]]
    assert returned[0] != returned[1]


def test_an_accuracy_can_be_the_objective_without_a_judge(outputs: Path) -> None:
    value = evaluate(configure(outputs, "judge=none", "objective_metric=eval/safety/accuracy"))
    assert value is not None
    assert 0 <= value <= 1


def test_an_unknown_metric_is_refused_with_those_there_are(outputs: Path, cli: Callable[..., Any]) -> None:
    done = cli("eval", "model=tiny", "objective_metric=eval/safety/winrate", light=True)
    assert done.code == 2
    assert (
        "eval/helpfulness/accuracy, eval/safety/accuracy, eval/helpfulness/win_rate, eval/safety/win_rate"
        in done.stderr
    )
    with pytest.raises(ConfigError, match=r"must be of eval/helpfulness/accuracy, eval/safety/accuracy, but is eval/"):
        evaluate(configure(outputs, "judge=none", "objective_metric=eval/safety/win_rate"))


def test_the_run_of_a_wandb_sweep_has_the_objective(outputs: Path) -> None:
    """In the run that the agent expects, beside that of the baseline, also where nothing is judged anew."""
    asked = "objective_metric=eval/safety/win_rate"
    value = evaluate(configure(outputs, asked))
    agent = {"WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": "expected", "WANDB_MODE": "offline"}
    finish(start(outputs, *PLAN, "tracker=wandb", asked, command="eval", **agent))  # type: ignore[arg-type]
    records = read_run(run_folders(outputs)["expected"])
    summary = {key: item for entry in of_type(records, "summary") for key, item in entry["update"].items()}
    assert summary["eval/safety/win_rate"] == value
