"""Every option of every group composes, for every command that has it, and does what its name says."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from sacpo_exp.config.loading import CONF, read_job, schema_of, write_job, write_resolved
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.config.schema import Criterion, LossName, ReportConfig, RunConfig, StageJob

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
        if group == "loss":
            return [f"loss@stages.{'base' if name == 'sft' else 'second'}.loss={name}"]
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
    needed = ["threshold=0.6"] if command == "choose" else []  # what only the user can know
    assert isinstance(configure(*needed, command=command), SCHEMAS[command])


@pytest.mark.parametrize("group", sorted({option.split("=")[0] for option in OPTIONS} - {"loss", "prices"}))
def test_every_group_has_a_default_that_exists(group: str) -> None:
    if group.startswith("hydra"):
        return
    chosen = [entry for entry in yaml.safe_load((CONF / "common.yaml").read_text())["defaults"] if group in entry]
    assert len(chosen) == 1
    (option,) = chosen[0].values()
    assert option.startswith("${") or (CONF / group / f"{option}.yaml").is_file()


ORDERS = {
    "helpful_first": [Criterion.helpfulness, Criterion.safety],
    "safety_first": [Criterion.safety, Criterion.helpfulness],
    "helpful_only": [Criterion.helpfulness],
    "safety_only": [Criterion.safety],
    "none": [],
}


def preference_stages(config: RunConfig) -> list[Any]:
    return [stage for stage in (config.stages.first, config.stages.second) if stage is not None]


@pytest.mark.parametrize("order", ORDERS)
def test_order_sets_the_criteria_and_beta_lands_in_the_last_stage(configure: Configure, order: str) -> None:
    stages = preference_stages(configure(f"order={order}", *(["beta=0.037"] if ORDERS[order] else [])))
    assert [stage.criterion for stage in stages] == ORDERS[order]
    assert [stage.beta for stage in stages] == ([0.1, 0.037][-len(stages) :] if stages else [])


def test_all_orders_are_covered() -> None:
    assert sorted(ORDERS) == sorted(path.stem for path in (CONF / "order").glob("*.yaml"))


@pytest.mark.parametrize("order", ["helpful_only", "safety_only"])
@pytest.mark.parametrize(
    "other", ["objective=dpo_then_kto", "optimization=paper", "model=nano"], ids=["objective", "optimization", "model"]
)
def test_a_one_stage_order_really_has_no_second_stage(configure: Configure, order: str, other: str) -> None:
    assert configure(f"order={order}", other).stages.second is None


OBJECTIVES = {
    "dpo": [LossName.dpo, LossName.dpo],
    "kto": [LossName.kto, LossName.kto],
    "dpo_then_kto": [LossName.dpo, LossName.kto],
    "kto_then_dpo": [LossName.kto, LossName.dpo],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective_sets_both_losses(configure: Configure, objective: str) -> None:
    losses = [stage.loss for stage in preference_stages(configure(f"objective={objective}"))]
    assert [loss.name for loss in losses] == OBJECTIVES[objective]
    assert [loss.loss_type for loss in losses] == ["kto" if loss.name == LossName.kto else "sigmoid" for loss in losses]


def test_all_objectives_are_covered() -> None:
    assert sorted(OBJECTIVES) == sorted(path.stem for path in (CONF / "objective").glob("*.yaml"))


def test_the_loss_of_one_stage_overrules_the_objective(configure: Configure) -> None:
    stages = preference_stages(configure("objective=dpo", "loss@stages.safety.loss=kto"))
    assert [stage.loss.name for stage in stages] == [LossName.dpo, LossName.kto]


def test_base_is_a_supervised_stage_or_none(configure: Configure) -> None:
    assert configure().stages.sft.loss.name == LossName.sft
    assert configure("base=none").stages.base is None


def read_optimization(name: str) -> dict[str, Any]:
    """The file conf/optimization/<name>.yaml, on top of the one that it names."""
    content = yaml.safe_load((CONF / "optimization" / f"{name}.yaml").read_text())
    below = [read_optimization(other) for other in content.pop("defaults", ())]
    return dict(OmegaConf.to_container(OmegaConf.merge(*below, content)))


def numbers_of(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that an optimization file sets."""
    stages = {name: asdict(getattr(config.stages, name)) for name in ("base", "first", "second")}
    keys = ("global_batch_size", "learning_rate", "num_train_epochs")
    optimization = asdict(config.optimization)
    optimization |= {name: kind and kind.value for name, kind in optimization.items() if name in ("dtype", "autocast")}
    chosen = {name: {key: stage[key] for key in keys} for name, stage in stages.items()}
    return {"optimization": optimization, "stages": chosen}


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
    assert (stages.sft.dataset, stages.helpfulness.dataset, stages.safety.dataset.max_rows) == (None, None, 9)


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
        "merge_ratio=0.5",
        "policies=[baseline,merged]",
        "dataset@stages.safety.dataset=demo",
        "model=nano",
        "model.stop=['\\nUSER:','</s>']",
    ],
}


@pytest.mark.parametrize("overrides", WHOLE.values(), ids=list(WHOLE))
def test_the_resolved_file_says_it_all(configure: Configure, tmp_path: Path, overrides: list[str]) -> None:
    config = configure(*overrides)
    path = write_resolved(config, tmp_path)
    assert path == tmp_path / "resolved.yaml"
    assert "${" not in path.read_text("utf-8")
    written = OmegaConf.load(path)
    assert OmegaConf.to_object(OmegaConf.merge(schema_of(written), written)) == config


@pytest.mark.parametrize("overrides", WHOLE.values(), ids=list(WHOLE))
def test_a_worker_reads_the_job_that_was_written(configure: Configure, tmp_path: Path, overrides: list[str]) -> None:
    job = StageJob(configure(*overrides), "first", "some-id", "parent", None, "view", "folder", 2, 4)
    assert read_job(write_job(job, tmp_path)) == job


def test_the_report_s_resolved_file_says_it_all(configure: Configure, tmp_path: Path) -> None:
    config = configure("seed=5", "confidence=0.9", command="report")
    read = OmegaConf.merge(OmegaConf.structured(ReportConfig), OmegaConf.load(write_resolved(config, tmp_path)))
    assert OmegaConf.to_object(read) == config


@pytest.mark.parametrize("name", ["model", "dataset"])
def test_a_report_can_be_narrowed(configure: Configure, name: str) -> None:
    assert getattr(configure(f"{name}=demo", command="report"), name) == "demo"
