"""Every experiment composes and plans without network, and is what the paper, or our study, says it is."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from sacpo_exp.cluster.automatic import fill_settings
from sacpo_exp.cluster.sweeps import list_experiments
from sacpo_exp.config.loading import CONF, register_schemas, set_values
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import aligned_stages, fill_stages
from sacpo_exp.config.validation import find_run_problems
from sacpo_exp.pipeline import open_run
from sacpo_exp.plan import Stage, make_plan

FOLDER = CONF / "experiment"
#: Files that list others, which `sacpo` runs one after the other.
LISTS = ("mini/methods", "study/methods", "study/order_cells", "real/cells")
#: Designs are parts of those of the paper and of the miniatures.
FILES = [path for path in FOLDER.rglob("*.yaml") if path.parent.name != "design"]
EXPERIMENTS = sorted({str(path.relative_to(FOLDER).with_suffix("")) for path in FILES} - {*LISTS})
SWEPT = (0.1, 0.05, 0.025, 0.01)
RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Experiment:
    """One experiment, composed once, its jobs, and of one or five their stages as `loss (criterion) β batch`."""

    composed: DictConfig
    jobs: list[RunConfig]
    plans: list[list[str]]


def refuse(*_: Any) -> None:
    raise OSError("no network in this test")


def write_real(folder: Path) -> Path:
    """Write pairs for both criteria, each into a file of its own."""
    for name in ("helpfulness", "safety"):
        rows = [{"prompt": f"{name} {n}?", "chosen": "Yes.", "rejected": "No."} for n in range(40)]
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return folder


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Experiment]:
    """`read("paper/p_sacpo")`: composed, its sweep as Hydra would split it, and planned as with `dry_run=true`."""
    register_schemas()
    outputs = tmp_path_factory.mktemp("outputs")
    known: dict[str, Experiment] = {}

    def run(name: str) -> Experiment:
        if name not in known:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                overrides = [f"experiment={name}", "dry_run=true", f"paths.outputs={outputs}"]
                overrides += [f"dataset.path={write_real(outputs)}"] if name.startswith("real/") else []
                composed = compose("train", overrides, return_hydra_config=True)
            settings = composed.hydra
            OmegaConf.set_struct(composed, False)
            composed.pop("hydra")
            filled, _ = fill_settings(fill_stages(composed), overrides)
            composed.hardware, composed.optimization = filled.hardware, filled.optimization
            swept = [f"{key}={value}" for key, value in (settings.sweeper.params or {}).items()]
            batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(swept), None)
            values = [dict(text.split("=") for text in job) for batch in batches for job in batch]
            jobs = [set_values(composed, {key: yaml.safe_load(value) for key, value in job.items()}) for job in values]
            assert [find_run_problems(job, []) for job in jobs] == [[]] * len(jobs)
            planned = jobs[:5] if name.startswith(("paper/", "mini/")) else jobs[:1]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("socket.socket.connect", refuse)
                patch.setattr("socket.getaddrinfo", refuse)
                fingerprints = open_run(jobs[0]).fingerprints
            plans = [[describe(stage) for stage in make_plan(job, fingerprints).stages] for job in planned]
            composed.mode = settings.mode and settings.mode.name
            known[name] = Experiment(composed, jobs, plans)
        return known[name]

    return run


def describe(stage: Stage) -> str:
    config = stage.config
    if config.criterion is None:
        return f"{config.loss.name} {config.global_batch_size}"
    return f"{config.loss.name} ({config.criterion.letter}) {config.beta:g} {config.global_batch_size}"


def two(first: str, second: str, strengths: tuple[float, ...] = SWEPT) -> list[list[str]]:
    """Plans of a sweep over the second stage's strength."""
    return [[f"{first} 256", f"{second} {strength:g} 64"] for strength in strengths]


#: Stages with batches as in the paper's scripts: 8 and 2 GPUs × 16 × 2.
PAPER = {
    "one_stage_dpo_h": [["dpo (H) 0.1 256"]],
    "one_stage_kto_h": [["kto (H) 0.1 256"]],
    "one_stage_dpo_s": [["dpo (S) 0.01 256"]],
    "dpo_h_dpo_s": two("dpo (H) 0.1", "dpo (S)"),
    "dpo_h_kto_s": two("dpo (H) 0.1", "kto (S)"),
    "kto_h_dpo_s": two("kto (H) 0.1", "dpo (S)"),
    "dpo_s_dpo_h": two("dpo (S) 0.01", "dpo (H)"),
    "p_sacpo": two("dpo (H) 0.1", "dpo (S)", (0.01, 0.01, 0.01)),
    "naive_merge": [["dpo (H) 0.1 256", "dpo (S) 0.01 256"]] * 3,
}
APPENDIX = [["sft 128", *stages] for stages in PAPER["dpo_h_dpo_s"]]
FURTHER = {"llama2_hh": APPENDIX, "pythia_pku": APPENDIX, "published": [[]], "_setting": PAPER["dpo_h_dpo_s"][:1]}


#: Last stages of the methods' sweeps on nano, whose batches are 8.
METHODS = {
    "sacpo": [f"dpo (S) {beta:g} 8" for beta in SWEPT],
    "rewarded_soups": ["dpo (S) 0.01 8"] * 3,
    "dpo_helpful": [f"dpo (H) {beta:g} 8" for beta in SWEPT],
    "dpo_safe": [f"dpo (S) {beta:g} 8" for beta in SWEPT],
    "dpo_mixed": [f"dpo (HS) {beta:g} 8" for beta in SWEPT],
    "safedpo": ["safedpo (HS) 0.1 8"] * 4,
    "bso": ["bso (HS) 0.1 8"] * 4,
    "bfpo": ["bfpo (HS) 0.1 8"] * 4,
    "modpo": [f"dpo (S) {beta:g} 8" for beta in SWEPT],
    "pecan": ["pecan (HS) 0.1 8"] * 5,
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_end_with_their_own_stage(read: Callable[[str], Experiment], name: str) -> None:
    assert [stages[-1] for stages in read(f"mini/{name}").plans] == METHODS[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_plans(read: Callable[[str], Experiment], name: str) -> None:
    experiment = read(name)
    assert experiment.composed.mode == ("MULTIRUN" if len(experiment.jobs) > 1 else None)
    assert experiment.plans


def test_no_experiment_of_the_paper_is_without_a_test() -> None:
    assert {path.stem for path in (FOLDER / "paper").glob("*.yaml")} == {*PAPER, *FURTHER}
    for folder in ("design", "mini"):
        stems = {path.stem for path in (FOLDER / folder).glob("*.yaml")}
        assert stems - {"_setting", "methods"} == {*PAPER, *METHODS}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_names_experiments_that_there_are(name: str) -> None:
    listed = list_experiments([f"experiment={name}"])
    assert len(listed) == (2 if "cells" in name else 11)
    assert all((FOLDER / f"{experiment}.yaml").is_file() for experiment in listed)
    assert list_experiments(["experiment=mini/p_sacpo"]) == list_experiments(["beta=0.1"]) == []


@pytest.mark.parametrize("name", [*PAPER, *FURTHER])
def test_the_paper_s_experiments_are_the_paper_s(read: Callable[[str], Experiment], name: str) -> None:
    experiment = read(f"paper/{name}")
    assert experiment.plans == (PAPER | FURTHER)[name]
    for job in experiment.jobs:
        numbers = job.optimization
        assert (numbers.max_length, numbers.max_prompt_length, numbers.dtype.value) == (512, 128, "bfloat16")
        assert (numbers.lr_scheduler_type, numbers.warmup_ratio, numbers.weight_decay) == ("cosine", 0.03, 0.0)
        for stage in job.stages.values():
            assert (stage.num_train_epochs, stage.learning_rate) == (3, 2e-5)
        assert job.hardware.activation_checkpointing
        assert job.generation.max_new_tokens == 512
        judge: Any = job.judge
        assert (judge.name, judge.repeats, job.prompts.name, job.matches.value) == ("paper", 3, "sacpo", "baseline")


@pytest.mark.parametrize("name", PAPER)
def test_the_miniatures_have_the_same_stages_and_sweeps(read: Callable[[str], Experiment], name: str) -> None:
    paper, mini = read(f"paper/{name}"), read(f"mini/{name}")
    without_batch = [[stage.rsplit(" ", 1)[0] for stage in plan] for plan in paper.plans]
    assert [[stage.rsplit(" ", 1)[0] for stage in plan if stage != "sft 16"] for plan in mini.plans] == without_batch
    assert all(plan[0] == "sft 16" for plan in mini.plans)
    ratios = list(RATIOS) if "merge" in name or "p_" in name else [None] * len(mini.jobs)
    assert [job.merge_ratio for job in mini.jobs] == [job.merge_ratio for job in paper.jobs] == ratios
    assert {job.model.name for job in mini.jobs} == {"nano"}


def test_a_miniature_takes_a_larger_model_with_its_own_numbers(configure: Callable[..., Any]) -> None:
    config = configure("experiment=mini/p_sacpo", "model=smollm2_135m")
    usual = configure("model=smollm2_135m")
    assert (config.model, config.optimization) == (usual.model, usual.optimization)
    assert config.stages["helpfulness"] == usual.stages["helpfulness"]


def test_orders_are_compared_at_equal_pairs_with_equal_numbers(read: Callable[[str], Experiment]) -> None:
    pairs = {}
    for order in ("helpful_first", "safety_first"):
        jobs = read(f"study/order/{order}").jobs
        stages = [tuple(aligned_stages(job).values()) for job in jobs]
        assert all(
            (first.global_batch_size, first.learning_rate, first.num_train_epochs)
            == (second.global_batch_size, second.learning_rate, second.num_train_epochs)
            for first, second in stages
        )
        pairs[order] = {
            (job.seed, *sorted((stage.criterion.name, stage.beta) for stage in each))
            for job, each in zip(jobs, stages, strict=True)
        }
    assert pairs["helpful_first"] == pairs["safety_first"]
    assert len(pairs["helpful_first"]) == 3 * len(SWEPT)


def test_merges_are_compared_with_direct_training_at_beta_over_lambda_q(read: Callable[[str], Experiment]) -> None:
    merged, direct = (read(f"study/lambda_q/{half}").jobs for half in ("merged", "direct"))
    wanted = {(job.seed, round(job.beta / job.merge_ratio, 12)) for job in merged}
    assert {(job.seed, job.beta) for job in direct} == wanted
    firsts = {job.stages["helpfulness"].beta for job in (*merged, *direct)}
    assert firsts == {0.1}


def test_a_dry_run_needs_neither_network_nor_torch_and_says_what_sharing_saves(cli: Callable[..., Any]) -> None:
    result = cli("train", "experiment=paper/llama2_hh", "beta=0.1,0.05", "dry_run=true", light=True)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.count("plan on hardware=a100x8") == 2
    assert "in all   4 stages, 0 stored, 4 to train; a script that goes path by path would train 6" in result.stdout
    assert "GPU hours of training with hardware=a100x8 (312 TFLOPS × 0.4 per device)" in result.stdout


def test_published_models_are_judged_without_training_anything(cli: Callable[..., Any]) -> None:
    result = cli("eval", "experiment=paper/published", "dry_run=true", light=True)
    assert (result.code, result.stderr) == (0, "")
    assert " to make stage" not in result.stdout
    assert "  212 prompts are assumed" in result.stdout
    assert "judges   6,360 calls to gpt-5.4-mini" in result.stdout  # 5 models × (129 + 83) prompts × 2 orders × 3
    refused = cli("train", "experiment=paper/published", light=True).stderr
    assert refused == "error: `order=none` with `base=none` leaves nothing to train. Try: sacpo eval\n"
