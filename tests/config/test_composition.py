"""Every option of every group composes, for every command that has it, and does what its name says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo_exp.config.loading import CONF, read_job, write_config
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.config.schema import RunConfig, StageJob
from sacpo_exp.config.stages import aligned_stages

Configure = Callable[..., Any]

COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("common", "_hydra"))


#: Groups of which any option can be chosen beside any of the others; experiments have tests of their own.
FREE = ("adapter", "base", "dataset", "generation", "judge", "model", "objective", "order", "prompts", "tracker")


def read_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def list_choices() -> list[list[str]]:
    """Overrides that between them choose every option of every group; a model chooses its optimization."""
    options = {group: read_options(group) for group in FREE}
    count = max(map(len, options.values()))
    choices = [[f"{group}={names[n % len(names)]}" for group, names in options.items()] for n in range(count)]
    # global batches that several devices can share
    choices += [[f"hardware={name}", "optimization=paper"] for name in read_options("hardware")]
    choices += [["optimization=paper_bf16"]]
    choices += [[f"hydra/launcher={name}"] for name in read_options("hydra/launcher")]
    choices += [[f"criterion=[{name}]"] for name in read_options("criterion")]
    return [*choices, ["judge=openai", "prices@judge.prices=openai", "paths=default"]]


def test_every_group_is_in_a_choice() -> None:
    chosen = {text.split("=")[0].split("@")[0].split("/")[0] for choice in list_choices() for text in choice}
    assert chosen == {path.name for path in CONF.iterdir() if path.is_dir()} - {"experiment"}
    assert {*read_options("optimization")} == {*read_options("model"), "paper", "paper_bf16"}


@pytest.mark.parametrize("choice", list_choices(), ids=" ".join)
def test_every_option_composes(configure: Configure, model_folder: Path, rows_file: Path, choice: list[str]) -> None:
    known = {"dataset": "dataset.path", "prompts": "prompts.path"}
    needs = {f"{group}=local": f"{key}={rows_file}" for group, key in known.items()}
    needs |= {"model=local": f"model.path={model_folder}", "prompts=xstest": f"prompts.path={rows_file}"}
    needs |= {f"{group}=hub": f"{group}.path=OWNER/NAME" for group in ("model", "dataset", "prompts")}
    needs["prompts=sacpo"] = f"prompts.helpful_path={rows_file}"
    assert isinstance(configure(*choice, *(needs[text] for text in choice if text in needs)), RunConfig)


def test_commands_about_a_plan_read_the_same_lists() -> None:
    train, *others = (
        yaml.safe_load((CONF / f"{command}.yaml").read_text()) for command in ("train", "eval", "export", "chat")
    )
    assert all(other["defaults"][1:] == train["defaults"][1:] for other in others)  # but for the schema


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_by_itself(configure: Configure, command: str) -> None:
    needed = ["threshold=0.6"] if command in ("choose", "multiplier") else []  # what only the user can know
    assert isinstance(configure(*needed, command=command), SCHEMAS[command])


ORDERS = {"helpful_first": ["helpfulness", "safety"], "safety_first": ["safety", "helpfulness"], "none": []}
ORDERS |= {"helpful_only": ["helpfulness"], "safety_only": ["safety"]}


def preference_stages(config: RunConfig) -> list[Any]:
    return list(aligned_stages(config).values())


@pytest.mark.parametrize("order", ORDERS)
def test_order_sets_the_criteria_and_beta_lands_in_the_last_stage(configure: Configure, order: str) -> None:
    stages = preference_stages(configure(f"order={order}", *(["beta=0.037"] if ORDERS[order] else [])))
    assert [stage.criterion.name for stage in stages] == ORDERS[order]
    assert [stage.beta for stage in stages] == ([0.1, 0.037][-len(stages) :] if stages else [])


@pytest.mark.parametrize(("objective", "losses"), [("kto", ["kto", "kto"]), ("dpo_then_kto", ["dpo", "kto"])])
def test_objective_sets_both_losses(configure: Configure, objective: str, losses: list[str]) -> None:
    assert [stage.loss.name for stage in preference_stages(configure(f"objective={objective}"))] == losses


def test_the_loss_of_one_stage_overrides_the_objective_and_brings_its_settings(configure: Configure) -> None:
    first, second = preference_stages(configure("losses=[robust]", "stages.safety.loss.name=kto"))
    assert (first.loss.label_smoothing, first.loss.desirable_weight) == (0.1, None)
    assert (second.loss.desirable_weight, second.loss.label_smoothing) == (1, None)


def test_the_command_line_s_criteria_win_and_keep_their_order(configure: Configure) -> None:
    config = configure("order=helpful_first", "criterion=[safety,helpfulness]", "beta=0.05", "earlier_betas=[0.2]")
    stages = [(stage.criterion.name, stage.beta) for stage in preference_stages(config)]
    assert stages == [("safety", 0.2), ("helpfulness", 0.05)]


@pytest.fixture
def honesty(tmp_path: Path) -> str:
    """A criterion of the user's own, as an override that finds it."""
    (tmp_path / "criterion").mkdir()
    lines = ["# @package stages.honesty", "defaults: [/dataset@dataset: null]", "criterion: {name: honesty, letter: T}"]
    (tmp_path / "criterion" / "honesty.yaml").write_text("\n".join(lines), "utf-8")
    return f"hydra.searchpath=[file://{tmp_path}]"


def test_a_third_criterion_takes_what_the_places_before_it_have(configure: Configure, honesty: str) -> None:
    config = configure(honesty, "criterion=[helpfulness,honesty,safety]", "objective=dpo_then_kto", "beta=0.05")
    stages = preference_stages(config)
    assert [stage.criterion.name for stage in stages] == ["helpfulness", "honesty", "safety"]
    assert [(stage.loss.name, stage.beta) for stage in stages] == [("dpo", 0.1), ("kto", 0.1), ("kto", 0.05)]
    second = config.stage_defaults["second"]
    assert [stage.learning_rate for stage in stages[1:]] == [second.learning_rate] * 2
    assert configure(honesty, "criterion=[honesty]", "stages.honesty.beta=0.3").stages["honesty"].beta == 0.3


def test_a_ratio_for_three_policies_is_refused(configure: Configure, problems_of: Configure, honesty: str) -> None:
    three = [honesty, "criterion=[helpfulness,honesty,safety]"]
    (sentence,) = problems_of(*three, "merge_ratio=0.5")
    assert sentence.startswith("`merge_ratio` gives 2 weights, but the order makes 3 policies. Try: merge_weights=[")
    remedy = sentence.split("Try: ")[1].split(", ")[0]
    assert sum(configure(*three, remedy).merge_weights) == pytest.approx(1)


def test_a_criterion_named_as_a_field_of_verdicts_is_refused(problems_of: Configure, tmp_path: Path) -> None:
    (tmp_path / "criterion").mkdir()
    lines = ["# @package stages.kind", "defaults: [/dataset@dataset: null]", "criterion: {name: kind, letter: K}"]
    (tmp_path / "criterion" / "kind.yaml").write_text("\n".join(lines), "utf-8")
    (sentence,) = problems_of(f"hydra.searchpath=[file://{tmp_path}]", "criterion=[kind]")
    assert "can't be called kind" in sentence


def test_a_model_brings_its_optimization(configure: Configure) -> None:
    brought, named = configure("model=nano"), configure("model=nano", "optimization=nano")
    assert (brought.optimization, brought.stages) == (named.optimization, named.stages)


@pytest.mark.parametrize("model", ["local", "nano", "smollm2_135m", "smollm2_135m_hub"])
def test_own_data_take_whole_epochs_and_lengths_of_their_own(
    configure: Configure, model_folder: Path, rows_file: Path, model: str
) -> None:
    chosen = [f"model={model}", *([f"model.path={model_folder}"] if model == "local" else [])]
    config = configure(*chosen, "dataset=local", f"dataset.path={rows_file}")
    assert (config.optimization.max_length, config.optimization.max_prompt_length) == ("auto", "auto")
    assert all(stage.num_train_epochs >= 1 for stage in config.stages.values())
    demo = configure(*chosen)
    assert demo.optimization.max_length == ("auto" if model == "local" else 128)


def test_trackers_land_under_their_names(configure: Configure) -> None:
    assert configure().tracker.wandb is None
    assert configure("tracker=wandb").tracker.wandb.project == "sacpo_exp"
    assert configure("tracker=wandb", "tracker.wandb.project=mine").tracker.wandb.project == "mine"


WHOLE = {
    "another judge": ["judge=paper", "judge.ask_again=[failed,unparsed]"],
    "all that is optional": [
        *("tracker=wandb", "trainer.max_steps=10", "stages.safety.trainer.lr_scheduler_kwargs={min_lr: 0.1}"),
        *("merge_ratio=0.5", "policies=[baseline,merged]", "dataset@stages.safety.dataset=demo"),
        *("model=nano", "model.stop=['\\nUSER:','</s>']"),
    ],
}


@pytest.mark.parametrize("overrides", WHOLE.values(), ids=list(WHOLE))
def test_a_job_is_read_as_it_was_written(configure: Configure, tmp_path: Path, overrides: list[str]) -> None:
    config = configure(*overrides)
    assert "${" not in write_config(config, tmp_path / "resolved.yaml").read_text("utf-8")
    job = StageJob(config, "safety", "some-id", "parent", None, "view", "folder", 2, 4)
    assert read_job(write_config(job, tmp_path / "job.yaml")) == job
