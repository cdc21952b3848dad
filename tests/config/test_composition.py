"""Every option of every group composes, for every command that has it, and does what its name says."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from sacpo_exp.config.loading import CONF, read_job, read_resolved, write_job, write_resolved
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.config.schema import ReportConfig, RunConfig, StageJob
from sacpo_exp.config.stages import aligned_stages

Configure = Callable[..., Any]

COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "common")
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def list_options() -> list[str]:
    """`group=option` for every file below conf/, but for experiments, which have tests of their own."""
    files = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.glob("*/**/*.yaml"))
    files = [file for file in files if file.parts[0] != "experiment"]
    depths = [2 if file.parts[0] == "hydra" else 1 for file in files]
    return ["/".join(f.parts[:depth]) + "=" + "/".join(f.parts[depth:]) for f, depth in zip(files, depths, strict=True)]


OPTIONS = list_options()


@pytest.fixture
def overrides_for(model_folder: Path, rows_file: Path) -> Callable[[str], list[str]]:
    """What has to stand on the command line to choose an option: the option, and what only the user can know."""
    needs = {
        "model=local": f"model.path={model_folder}",
        "dataset=local": f"dataset.path={rows_file}",
        "hardware=a100x2": "optimization=paper",  # global batches that several devices can share
        "hardware=a100x8": "optimization=paper",
        "hardware=h100x8": "optimization=paper",
        "hardware=multinode": "optimization=paper",
        "prices=openai": "judge=openai",
        "prompts=sacpo": f"prompts.helpful_path={rows_file}",
        "prompts=local": f"prompts.path={rows_file}",
        "prompts=xstest": f"prompts.path={rows_file}",
    }

    def find(option: str) -> list[str]:
        group, name = option.split("=")
        if group == "criterion":
            return [f"criterion=[{name}]"]
        extra = [needs[option]] if option in needs else []
        return [option.replace("prices=", "prices@judge.prices="), *extra]

    return find


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(configure: Configure, overrides_for: Callable[[str], list[str]], option: str) -> None:
    assert isinstance(configure(*overrides_for(option)), RunConfig)


def test_commands_about_a_plan_read_the_same_lists() -> None:
    train, *others = (
        yaml.safe_load((CONF / f"{command}.yaml").read_text()) for command in ("train", "eval", "export", "chat")
    )
    assert all(other["defaults"][1:] == train["defaults"][1:] for other in others)  # but for the schema


#: One option of every group, usually not its default, and an experiment.
FOR_BOTH = {option.split("=")[0]: option for option in (*OPTIONS, "experiment=mini/p_sacpo")}


@pytest.mark.parametrize("option", FOR_BOTH.values())
def test_every_group_gives_train_and_eval_the_same_configuration(
    configure: Configure, overrides_for: Callable[[str], list[str]], option: str
) -> None:
    overrides = overrides_for(option)
    train, evaluate = vars(configure(*overrides)), vars(configure(*overrides, command="eval"))
    assert {key: value for key, value in evaluate.items() if key in train} == train


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_by_itself(configure: Configure, command: str) -> None:
    needed = ["threshold=0.6"] if command in ("choose", "multiplier") else []  # what only the user can know
    assert isinstance(configure(*needed, command=command), SCHEMAS[command])


@pytest.mark.parametrize("group", sorted({option.split("=")[0] for option in OPTIONS} - {"prices"}))
def test_every_group_has_a_default_that_exists(group: str) -> None:
    if group.startswith("hydra"):
        return
    chosen = [entry for entry in yaml.safe_load((CONF / "common.yaml").read_text())["defaults"] if group in entry]
    assert len(chosen) == 1
    (options,) = chosen[0].values()
    for option in options if isinstance(options, list) else [options]:
        assert option.startswith("${") or (CONF / group / f"{option}.yaml").is_file()


ORDERS = {
    "helpful_first": ["helpfulness", "safety"],
    "safety_first": ["safety", "helpfulness"],
    "helpful_only": ["helpfulness"],
    "safety_only": ["safety"],
    "none": [],
}


def preference_stages(config: RunConfig) -> list[Any]:
    return list(aligned_stages(config).values())


@pytest.mark.parametrize("order", ORDERS)
def test_order_sets_the_criteria_and_beta_lands_in_the_last_stage(configure: Configure, order: str) -> None:
    stages = preference_stages(configure(f"order={order}", *(["beta=0.037"] if ORDERS[order] else [])))
    assert [stage.criterion.name for stage in stages] == ORDERS[order]
    assert [stage.beta for stage in stages] == ([0.1, 0.037][-len(stages) :] if stages else [])


OBJECTIVES = {
    "dpo": ["dpo", "dpo"],
    "kto": ["kto", "kto"],
    "dpo_then_kto": ["dpo", "kto"],
    "kto_then_dpo": ["kto", "dpo"],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective_sets_both_losses(configure: Configure, objective: str) -> None:
    stages = preference_stages(configure(f"objective={objective}"))
    assert [stage.loss.name for stage in stages] == OBJECTIVES[objective]


def test_the_loss_of_one_stage_overrides_the_objective_and_brings_its_settings(configure: Configure) -> None:
    first, second = preference_stages(configure("losses=[robust]", "stages.safety.loss.name=kto"))
    assert (first.loss.label_smoothing, first.loss.desirable_weight) == (0.1, None)
    assert (second.loss.desirable_weight, second.loss.undesirable_weight, second.loss.label_smoothing) == (
        1,
        None,
        None,
    )


def test_the_command_line_s_criteria_win_and_keep_their_order(configure: Configure) -> None:
    config = configure("order=helpful_first", "criterion=[safety,helpfulness]", "beta=0.05", "earlier_betas=[0.2]")
    assert [(stage.criterion.name, stage.beta) for stage in preference_stages(config)] == [
        ("safety", 0.2),
        ("helpfulness", 0.05),
    ]


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


def test_a_ratio_for_three_policies_is_refused_with_weights_that_work(
    configure: Configure, problems_of: Configure, honesty: str
) -> None:
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


def read_optimization(name: str) -> dict[str, Any]:
    """The file conf/optimization/<name>.yaml, on top of the one that it names."""
    content = yaml.safe_load((CONF / "optimization" / f"{name}.yaml").read_text())
    below = [read_optimization(other) for other in content.pop("defaults", ())]
    return dict(OmegaConf.to_container(OmegaConf.merge(*below, content)))


def numbers_of(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that an optimization file sets."""
    places = dict(zip(("sft", "first", "second"), config.stages.values(), strict=True))
    stages = {place: asdict(stage) for place, stage in places.items()}
    keys = ("global_batch_size", "learning_rate", "num_train_epochs")
    optimization = asdict(config.optimization)
    optimization |= {name: kind and kind.value for name, kind in optimization.items() if name in ("dtype", "autocast")}
    chosen = {name: {key: stage[key] for key in keys} for name, stage in stages.items()}
    return {"optimization": optimization, "stage_defaults": chosen}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_brings_its_optimization(
    configure: Configure, overrides_for: Callable[[str], list[str]], model: str
) -> None:
    assert numbers_of(configure(*overrides_for(f"model={model}"))) == read_optimization(model)


def test_optimization_overrules_the_model_s(configure: Configure) -> None:
    config = configure("model=nano", "optimization=paper")
    assert config.model.name == "nano"
    assert numbers_of(config) == read_optimization("paper")


def test_trackers_land_under_their_names(configure: Configure) -> None:
    assert configure().tracker.wandb is None
    assert configure("tracker=wandb").tracker.wandb.project == "sacpo_exp"
    assert configure("tracker=wandb", "tracker.wandb.project=mine").tracker.wandb.project == "mine"


def test_a_stage_may_have_data_of_its_own(configure: Configure) -> None:
    stages = configure("dataset@stages.safety.dataset=demo", "stages.safety.dataset.max_rows=9").stages
    assert [stage.dataset and stage.dataset.max_rows for stage in stages.values()] == [None, None, 9]


def test_moving_the_outputs_moves_everything_that_a_run_writes(configure: Configure, tmp_path: Path) -> None:
    config = configure(f"paths.outputs={tmp_path}")
    assert config.paths.outputs == str(tmp_path)
    text = (CONF / "common.yaml").read_text()
    assert "dir: ${paths.outputs}/runs/" in text
    assert "dir: ${sweep_dir:${paths.outputs}}/" in text


WHOLE = {
    "default": [],
    "another judge": ["judge=paper", "judge.ask_again=[failed,unparsed]"],
    "one stage": ["order=safety_only", "objective=kto", "base=none"],
    "all that is optional": [
        "tracker=wandb",
        "trainer.max_steps=10",
        "stages.safety.trainer.lr_scheduler_kwargs={min_lr: 0.1}",
        "merge_ratio=0.5",
        "policies=[baseline,merged]",
        "dataset@stages.safety.dataset=demo",
        "model=nano",
        "model.stop=['\\nUSER:','</s>']",
    ],
}


@pytest.mark.parametrize("overrides", WHOLE.values(), ids=list(WHOLE))
def test_what_is_written_for_other_processes_is_read_as_it_was(
    configure: Configure, tmp_path: Path, overrides: list[str]
) -> None:
    config = configure(*overrides)
    assert "${" not in write_resolved(config, tmp_path).read_text("utf-8")
    assert read_resolved(tmp_path, RunConfig) == config
    job = StageJob(config, "safety", "some-id", "parent", None, "view", "folder", 2, 4)
    assert read_job(write_job(job, tmp_path)) == job


def test_a_report_can_be_narrowed_and_is_written_whole(configure: Configure, tmp_path: Path) -> None:
    config = configure("seed=5", "confidence=0.9", "model=demo", command="report")
    write_resolved(config, tmp_path)
    assert read_resolved(tmp_path, ReportConfig) == config
    assert config.model == "demo"
