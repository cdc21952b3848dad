"""The recipe is the identity: what changes an artifact's id, what does not, and what plans share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation_plan import (
    Contest,
    Entrant,
    judgments_artifact,
    policy_labels,
    responses_artifact,
    scorer_artifact,
    scores_artifact,
)
from sacpo_exp.pipeline import judge_rows, take_fingerprints
from sacpo_exp.plan import Fingerprints, Plan, Stage, make_plan

Planner = Callable[..., Plan]

FINGERPRINTS = Fingerprints(
    datasets={"dataset": "rows", "stages.first.dataset": "more rows", "stages.second.dataset": "more rows"},
    prompts="prompts",
    judge="judge rows",
)


#: Numbers of the paper, whose batches every machine can take, so that tuning the defaults changes no test; in float32,
#: which every machine updates alike.
PAPER = ["optimization=paper", "optimization.dtype=float32"]


@pytest.fixture
def planned(configure: Callable[..., Any]) -> Planner:
    def run(*overrides: str, command: str = "train", fingerprints: Fingerprints = FINGERPRINTS) -> Plan:
        return make_plan(configure(*overrides, command=command), fingerprints)

    return run


def ids(plan: Plan) -> list[str]:
    return [stage.artifact.id for stage in plan.stages]


def stage(plan: Plan, name: str) -> Stage:
    (found,) = [stage for stage in plan.stages if stage.name == name]
    return found


SAME_STAGES = {
    "fewer rows per device": ["hardware.per_device_train_batch_size=4"],
    "more rows per device": ["hardware.per_device_train_batch_size=64"],
    "eight GPUs with ZeRO 3": ["hardware=a100x8"],
    "generation batch": ["hardware.generation_batch_size=1"],
    "checkpoints": ["hardware.save_steps=99"],
    "outputs": ["paths.outputs=elsewhere"],
    "tracker": ["tracker=wandb"],
    "policies": ["policies=all"],
    "dry run": ["dry_run=true"],
    "responses": ["generation.max_new_tokens=9"],
    "prompts": ["prompts.limit=9"],
    "judge": ["judge.layer=3"],
    "merge": ["merge_ratio=0.5"],
    "the dataset's name": ["dataset.name=renamed"],
    "eval": [],
    "export": [],
    "chat": [],
}


@pytest.mark.parametrize("case", SAME_STAGES)
def test_stages_keep_their_ids_when_other_things_change(planned: Planner, case: str) -> None:
    plan = planned(*PAPER, *SAME_STAGES[case], command=case if case in ("eval", "export", "chat") else "train")
    assert ids(plan) == ids(planned(*PAPER))


def test_names_decide_no_hash(planned: Planner) -> None:
    def hashes(*overrides: str) -> list[str]:
        plan = planned("merge_ratio=0.5", "model=tiny", *overrides)
        return [spec.hash for spec in (*plan.training(), *plan.policies.values())]

    assert hashes("model.name=renamed", "dataset.name=renamed") == hashes()


#: What changes, with the stages that become other artifacts by it.
OTHER_STAGES = {
    "last beta": ("beta=0.05", ["second"]),
    "first beta": ("stages.first.beta=0.05", ["first", "second"]),
    "seed": ("seed=1", ["base", "first", "second"]),
    "base learning rate": ("stages.base.learning_rate=1e-3", ["base", "first", "second"]),
    "second learning rate": ("stages.second.learning_rate=1e-3", ["second"]),
    "epochs": ("stages.first.num_train_epochs=2", ["first", "second"]),
    "global batch": ("stages.second.global_batch_size=16", ["second"]),
    "loss": ("loss@stages.second.loss=kto", ["second"]),
    "loss type": ("stages.second.loss.loss_type=ipo", ["second"]),
    "order": ("order=safety_first", ["first", "second"]),
    "a stage's own data": ("dataset@stages.second.dataset=demo", ["second"]),
    "weight dtype": ("optimization.dtype=float16", ["base", "first", "second"]),
    "autocast": ("optimization.autocast=bfloat16", ["base", "first", "second"]),
    "length": ("optimization.max_length=200", ["base", "first", "second"]),
    "length of prompts": ("optimization.max_prompt_length=50", ["base", "first", "second"]),
    "chat template": ("model.chat_template=null", ["base", "first", "second"]),
}


@pytest.mark.parametrize(("override", "changed"), OTHER_STAGES.values(), ids=list(OTHER_STAGES))
def test_a_stage_gets_another_id_when_its_content_changes(planned: Planner, override: str, changed: list[str]) -> None:
    usual, other = planned(*PAPER), planned(*PAPER, override)
    differing = [a.name for a, b in zip(usual.stages, other.stages, strict=True) if a.artifact.id != b.artifact.id]
    assert differing == changed


def test_other_rows_make_other_stages(planned: Planner) -> None:
    other = planned(fingerprints=Fingerprints(datasets={"dataset": "other rows"}))
    assert not set(ids(other)) & set(ids(planned()))


def test_another_parent_makes_another_stage(planned: Planner) -> None:
    assert stage(planned("base=none"), "first").artifact.id != stage(planned(), "first").artifact.id


def test_the_seed_of_an_embedded_model_does_not_matter_but_that_of_random_weights_does(planned: Planner) -> None:
    assert planned("seed=1").model.id == planned().model.id
    assert planned("model=tiny", "seed=1").model.id != planned("model=tiny").model.id


def test_kto_depends_on_the_rows_that_its_kl_is_estimated_from(planned: Planner) -> None:
    usual = planned(*PAPER, "objective=kto")
    fewer_rows = planned(*PAPER, "objective=kto", "hardware.per_device_train_batch_size=4")
    more_processes = planned(*PAPER, "objective=kto", "hardware.processes=2")
    assert len({stage(plan, "first").artifact.id for plan in (usual, fewer_rows, more_processes)}) == 3
    assert len({stage(plan, "base").artifact.id for plan in (usual, fewer_rows, more_processes)}) == 1


def test_kto_depends_on_its_weights(planned: Planner) -> None:
    usual = ids(planned("objective=kto"))
    weighted = ids(planned("objective=kto", "stages.second.loss.undesirable_weight=3"))
    assert weighted[:2] == usual[:2]
    assert weighted[2] != usual[2]


def test_dpo_depends_on_label_smoothing(planned: Planner) -> None:
    robust = "stages.second.loss.loss_type=robust"
    usual, smoothed = (ids(planned(robust, f"stages.second.loss.label_smoothing={value}")) for value in (0.2, 0.1))
    assert smoothed[:2] == usual[:2]
    assert smoothed[2] != usual[2]


def test_a_sweep_over_beta_shares_base_and_first_stage(planned: Planner) -> None:
    sweep = [ids(planned(f"beta={beta}")) for beta in (0.1, 0.05, 0.025)]
    assert [len(set(column)) for column in zip(*sweep, strict=True)] == [1, 1, 3]


def test_both_orders_share_the_base(planned: Planner) -> None:
    assert ids(planned("order=safety_first"))[0] == ids(planned("order=helpful_first"))[0]


@pytest.mark.parametrize(("two", "one"), [("helpful_first", "helpful_only"), ("safety_first", "safety_only")])
def test_the_first_stage_is_the_one_stage_order_s_at_equal_beta(planned: Planner, two: str, one: str) -> None:
    alone = planned(f"order={one}", "beta=0.2")
    assert ids(planned(f"order={two}", "stages.first.beta=0.2"))[:2] == ids(alone)
    assert alone.policies["first"] == alone.stages[-1].artifact


@pytest.mark.parametrize("first", ["helpful", "safety"])
def test_a_naive_merge_has_the_one_stage_orders_as_parents_each_with_its_own_beta(planned: Planner, first: str) -> None:
    plan = planned(f"order={first}_first", "stages.first.beta=0.2", "beta=0.05", "merge=naive", "merge_ratio=0.5")
    second = {"helpful": "safety", "safety": "helpful"}[first]
    alone = [
        planned(f"order={name}_only", f"beta={beta}").policies["first"] for name, beta in ((first, 0.2), (second, 0.05))
    ]
    assert plan.merge is not None
    assert [plan.merge.first, plan.merge.second] == alone
    assert plan.merge.artifact.parents == tuple(spec.id for spec in alone)


def test_others_are_policies_that_nothing_is_trained_for(planned: Planner) -> None:
    others = "others=[line-corporation/sacpo@b596248,PKU-Alignment/beaver-7b-v1.0]"
    plan = planned(others, "order=none", "base=none", "model=alpaca_7b")
    assert plan.stages == ()
    assert list(plan.policies) == ["baseline", "sacpo", "beaver-7b-v1.0"]
    recipes = [plan.policies[name].recipe for name in ("sacpo", "beaver-7b-v1.0")]
    assert [(recipe["path"], recipe["revision"]) for recipe in recipes] == [
        ("line-corporation/sacpo", "b596248"),
        ("PKU-Alignment/beaver-7b-v1.0", "main"),
    ]
    assert {recipe["chat_template"] for recipe in recipes} == {plan.model.recipe["chat_template"]}
    assert [stage.artifact.id for stage in planned(others).stages] == ids(planned())


def test_a_merge_has_first_and_second_stage_as_parents_and_depends_on_the_ratio(planned: Planner) -> None:
    half, quarter = planned("merge_ratio=0.5"), planned("merge_ratio=0.25")
    assert half.merge is not None
    assert quarter.merge is not None
    assert half.merge.artifact.parents == tuple(ids(half)[1:])
    assert half.merge.artifact.id != quarter.merge.artifact.id
    assert list(half.policies) == ["baseline", "first", "second", "merged"]
    assert half.policies["merged"] == half.merge.artifact


def test_the_baseline_is_the_base_stage_s_product_or_the_model(planned: Planner) -> None:
    with_base, without = planned(), planned("base=none")
    assert with_base.policies["baseline"] == stage(with_base, "base").artifact
    assert without.policies["baseline"] == without.model


def test_each_stage_starts_from_the_one_before(planned: Planner) -> None:
    plan = planned()
    assert [stage.parent for stage in plan.stages] == [plan.model, *(stage.artifact for stage in plan.stages[:-1])]
    assert [made.artifact.parents for made in plan.stages] == [(made.parent.id, made.data.id) for made in plan.stages]


SELECTED = {
    "final": ("final", ["merged"]),
    "all": ("all", ["baseline", "first", "second", "merged"]),
    "list": (["second", "first"], ["second", "first"]),
}


@pytest.mark.parametrize(("wanted", "names"), SELECTED.values(), ids=list(SELECTED))
def test_policies_selects(planned: Planner, wanted: str | list[str], names: list[str]) -> None:
    assert list(planned("merge_ratio=0.5").selected(wanted)) == names


BATCHES = {
    "one pass": (["hardware.per_device_train_batch_size=256"], 256, 1),
    "less than the device takes": (["stages.first.global_batch_size=4", "hardware=a100x1"], 4, 1),
    "two processes": (["hardware.processes=2", "hardware.per_device_train_batch_size=4"], 4, 32),
    "one GPU": (["hardware=a100x1"], 16, 16),
    "eight GPUs": (["hardware=a100x8"], 16, 2),
}


@pytest.mark.parametrize(("overrides", "per_device", "passes"), BATCHES.values(), ids=list(BATCHES))
def test_accumulation_follows_from_the_global_batch(
    planned: Planner, configure: Callable[..., Any], overrides: list[str], per_device: int, passes: int
) -> None:
    first = stage(planned(*PAPER, *overrides), "first")
    processes = configure(*PAPER, *overrides).hardware.processes
    assert (first.per_device, first.accumulation) == (per_device, passes)
    assert first.per_device * first.accumulation * processes == first.config.global_batch_size


def test_recipes_are_plain_values(planned: Planner) -> None:
    plan = planned("model=tiny", "objective=dpo_then_kto", "merge_ratio=0.5", "dataset@stages.first.dataset=demo")
    for spec in plan.training():
        assert json.loads(json.dumps(spec.recipe)) == spec.recipe


def test_ids_of_one_plan_differ_and_are_names_of_folders(planned: Planner) -> None:
    specs = list(planned("merge_ratio=0.5").training())
    assert len({spec.id for spec in specs}) == len(specs) == 6
    assert [spec.kind for spec in specs] == ["model", "dataset", "stage", "stage", "stage", "merge"]
    assert all(set(spec.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for spec in specs)
    assert specs[4].id.startswith("smollm2-135m.sft.dpo-h-b0.1.dpo-s-b0.1-")


def test_labels_name_the_family_and_beta(planned: Planner) -> None:
    labels = {name: spec.labels["policy"] for name, spec in planned("beta=0.05", "merge_ratio=0.5").policies.items()}
    assert labels == {
        "baseline": "SFT",
        "first": "DPO(H) β=0.1",
        "second": "DPO(H)→DPO(S) β=0.05",
        "merged": "P-SACPO q=0.5",
    }


def evaluation_ids(configure: Callable[..., Any], *overrides: str) -> list[str]:
    """Of the last policy's responses, scorer, scores and judgments."""
    config = configure(*overrides)
    plan = make_plan(config, FINGERPRINTS)
    baseline, policy = (
        Entrant(name, responses_artifact(plan.policies[name], config, FINGERPRINTS), policy_labels(plan.policies[name]))
        for name in ("baseline", "second")
    )
    contest = Contest([], "demo", "", baseline, (baseline, policy))
    scorer = scorer_artifact(config.judge, config, FINGERPRINTS)
    scores = [scores_artifact(entrant, config.judge, scorer.id).id for entrant in (policy, baseline)]
    judgments = judgments_artifact(contest, (policy, baseline), config.judge, {}, {}, tuple(scores))
    return [policy.responses.id, scorer.id, scores[0], judgments.id]


#: Which of responses, scorer, scores and judgments are made anew.
EVALUATIONS = {
    "generation batch": ("hardware.generation_batch_size=1", [False, False, False, False]),
    "outputs": ("paths.outputs=elsewhere", [False, False, False, False]),
    "policies": ("policies=all", [False, False, False, False]),
    "length": ("generation.max_new_tokens=9", [True, False, True, True]),
    "stop strings": ("model.stop=[USER]", [True, False, True, True]),
    "judge": ("judge.layer=3", [False, True, True, True]),
    "policy": ("beta=0.05", [True, False, True, True]),
}


@pytest.mark.parametrize(("override", "changed"), EVALUATIONS.values(), ids=list(EVALUATIONS))
def test_an_evaluation_is_made_anew_from_where_it_differs(
    configure: Callable[..., Any], override: str, changed: list[bool]
) -> None:
    pairs = zip(evaluation_ids(configure), evaluation_ids(configure, override), strict=True)
    assert [a != b for a, b in pairs] == changed


def test_fingerprints_follow_the_rows_and_not_their_name(configure: Callable[..., Any]) -> None:
    usual = take_fingerprints(configure())
    assert take_fingerprints(configure("dataset.name=renamed")) == usual
    limited = take_fingerprints(configure("dataset.max_rows=10"))
    assert limited.datasets["dataset"] != usual.datasets["dataset"]
    assert (limited.prompts, limited.judge) == (usual.prompts, usual.judge)
    assert take_fingerprints(configure("prompts.limit=10")).prompts != usual.prompts
    assert list(take_fingerprints(configure("dataset@stages.second.dataset=demo")).datasets) == [
        "dataset",
        "stages.second.dataset",
    ]


def test_the_judge_has_the_demo_s_rows_whatever_policies_read(configure: Callable[..., Any], rows_file: Path) -> None:
    for overrides in (
        [],
        ["dataset.max_rows=5", "dataset.max_heldout_rows=3"],
        ["dataset=local", f"dataset.path={rows_file}"],
    ):
        config = configure(*overrides)
        assert judge_rows(config) == generate_rows("judge", 0)
        assert judge_rows(config, "heldout") == generate_rows("heldout", 0)


def test_the_same_content_in_another_file_is_the_same_data(
    configure: Callable[..., Any], rows_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(rows_file.read_bytes())
    configs = [configure("dataset=local", f"dataset.path={path}") for path in (rows_file, copy)]
    assert take_fingerprints(configs[0]).datasets == take_fingerprints(configs[1]).datasets


def test_a_model_folder_is_known_by_its_content(configure: Callable[..., Any], model_folder: Path) -> None:
    config = configure("model=local", f"model.path={model_folder}")

    def model_id() -> str:
        return make_plan(config, take_fingerprints(config)).model.id

    ids = [model_id()]
    files = ("model.safetensors", "merges.txt", "vocab.txt", "cl100k.tiktoken", "code.py", "parts/code.py")
    for name in (*files, "additional_chat_templates/tool_use.jinja"):
        assert model_id() == ids[-1]
        (model_folder / name).parent.mkdir(exist_ok=True)
        (model_folder / name).write_bytes(b"content")
        ids.append(model_id())
    assert len(set(ids)) == len(files) + 2
    for name in ("pytorch_model.bin", "README.md", "checkpoint-1/model.safetensors"):  # are not read
        (model_folder / name).parent.mkdir(exist_ok=True)
        (model_folder / name).write_bytes(b"content")
    assert model_id() == ids[-1]
    (model_folder / "merges.txt").write_bytes(b"CONTENT")
    assert model_id() not in ids


@pytest.mark.parametrize(
    "override",
    ["model.path={folder}", "others=[{folder}]", "judge.reward.model.path={folder}"],
    ids=["model", "others", "judge"],
)
def test_a_model_folder_needs_weights_in_safetensors(
    configure: Callable[..., Any], model_folder: Path, override: str
) -> None:
    judge = ["judge=reward_model", "judge.reward.model.source=path", "judge.reward.model.chat_template=x"]
    choice = {"m": ["model=local"], "o": [], "j": judge}[override[0]]
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    config = configure(*choice, override.format(folder=model_folder), command="eval")
    with pytest.raises(ConfigError, match=r"model must hold weights in safetensors .* only pytorch_model\.bin"):
        take_fingerprints(config)
    (model_folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds an adapter"):
        take_fingerprints(config)


def test_16_bit_weights_are_updated_alike_on_all_machines_with_zero_only(planned: Planner) -> None:
    paper = [PAPER[0], "order=helpful_only", "base=none"]
    offloaded = ["hardware.zero_stage=2", "hardware.offload_optimizer=cpu"]
    machines = [["hardware=a100x8"], ["hardware=a100x2"], ["hardware=a100x1", *offloaded], ["hardware=multinode"]]
    ids = {planned(*paper, *machine).stages[0].artifact.id for machine in machines}
    assert len(ids) == 1
    assert planned(*paper, "hardware=a100x1").stages[0].artifact.id not in ids
    one, eight = (planned(*paper, "optimization.dtype=float32", f"hardware={name}") for name in ("a100x1", "a100x8"))
    assert one.stages[0].artifact.id == eight.stages[0].artifact.id


def test_without_an_adapter_no_recipe_speaks_of_one(planned: Planner) -> None:
    plan = planned(*PAPER)
    assert all("adapter" not in made.artifact.recipe and "lora" not in made.artifact.id for made in plan.stages)


#: Adapters whose policies all differ.
ADAPTERS = (
    ["adapter=none"],
    ["adapter=lora"],
    ["adapter=lora", "adapter.r=8"],
    ["adapter=lora", "adapter.lora_alpha=8"],
    ["adapter=lora", "adapter.lora_dropout=0.1"],
    ["adapter=lora", "adapter.target_modules=[q_proj]"],
    ["adapter=lora", "adapter.quantize=true"],
)


def test_adapters_make_stages_of_their_own(planned: Planner) -> None:
    found = [made for overrides in ADAPTERS for made in ids(planned(*PAPER, *overrides))]
    assert len(set(found)) == 3 * len(ADAPTERS)
    assert ids(planned(*PAPER, "adapter=lora", "adapter.name=x")) == ids(planned(*PAPER, "adapter=lora"))


def test_dropout_depends_on_the_rows_that_share_a_mask(planned: Planner) -> None:
    two = "hardware=cpu_x2"
    assert ids(planned(*PAPER, "adapter=lora", two)) == ids(planned(*PAPER, "adapter=lora"))
    dropping = [*PAPER, "adapter=lora", "adapter.lora_dropout=0.1"]
    assert not set(ids(planned(*dropping, two))) & set(ids(planned(*dropping)))


def test_policies_with_adapters_are_called_otherwise(planned: Planner) -> None:
    plan = planned("adapter=qlora", "adapter.r=8")
    assert stage(plan, "second").artifact.labels["family"] == "qlora8 DPO(H)→DPO(S)"
    assert stage(plan, "base").artifact.labels["policy"] == "qlora8 SFT"
    assert ".dpo-h-b0.1-qlora8." in stage(plan, "second").artifact.id
