"""The recipe is the identity: what changes an artifact's id, what does not, and what plans share."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.contests import Contest, Entrant, judgments_artifact
from sacpo_exp.evaluation.judging import scorer_artifact, scores_artifact
from sacpo_exp.evaluation.responding import responses_artifact
from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import Fingerprints, Plan, make_plan, policy_of_spec

#: A criterion that a user adds.
HONESTY = """# @package stages.honesty
defaults:
  - /dataset@dataset: null
criterion: {name: honesty, letter: T}
"""

OWN_ROWS = {f"stages.{name}.dataset": "more rows" for name in ("helpfulness", "safety", "honesty")}
FINGERPRINTS = Fingerprints({"dataset": "rows"} | OWN_ROWS, "prompts", "judge rows")

#: Numbers of the paper, whose batches every machine can take, so that tuning the defaults changes no test; in float32,
#: which every machine updates alike.
PAPER = ["optimization=paper", "optimization.dtype=float32"]


@pytest.fixture
def planned(configure: Any) -> Any:
    def run(*overrides: str, command: str = "train", fingerprints: Fingerprints = FINGERPRINTS) -> Plan:
        return make_plan(configure(*overrides, command=command), fingerprints)

    return run


def ids(plan: Plan) -> list[str]:
    return [stage.artifact.id for stage in plan.stages]


#: Overrides of both plans, those of one, and the stages that become other artifacts by these.
ALL, NONE = ["sft", "helpfulness", "safety"], list[str]()
CHANGES = {
    "machine": ("", "hardware=a100x8 hardware.save_minutes=99 hardware.generation_batch_size=1 tracker=wandb", NONE),
    "rows per device": ("", "hardware.per_device_train_batch_size=4", NONE),
    "loading of rows": ("", "+trainer.dataloader_num_workers=2 +trainer.ddp_timeout=9", NONE),
    "held-out rows while training": ("", "+trainer.eval_strategy=steps +trainer.eval_steps=9 log_completions=2", NONE),
    "held-out rows that the schedule reads": (
        "optimization.lr_scheduler_type=reduce_lr_on_plateau +trainer.eval_strategy=steps",
        "+trainer.eval_steps=9",
        ALL,
    ),
    "evaluation": ("", "policies=all generation.max_new_tokens=9 prompts.limit=9 judge.layer=3 merge_ratio=0.5", NONE),
    "prompts of a criterion": ("", "stages.safety.criterion.prompt_kinds=[x]", NONE),
    "name of an adapter": ("adapter=lora", "adapter.name=x", NONE),
    "processes of an adapter": ("adapter=lora", "hardware=cpu_x2", NONE),
    "rows per device without a KL": ("losses=[apo_zero_unpaired]", "hardware.per_device_train_batch_size=4", NONE),
    "default smoothing": ("losses=[robust]", "stages.safety.loss.label_smoothing=0.1", NONE),
    "last beta": ("", "beta=0.05", ["safety"]),
    "first beta": ("", "earlier_betas=[0.05]", ["helpfulness", "safety"]),
    "a stage's beta": ("", "stages.helpfulness.beta=0.05", ["helpfulness", "safety"]),
    "seed": ("", "seed=1", ALL),
    "learning rate by place": ("", "stage_defaults.second.learning_rate=1e-3", ["safety"]),
    "epochs": ("", "stages.helpfulness.num_train_epochs=2", ["helpfulness", "safety"]),
    "global batch": ("", "stages.safety.global_batch_size=16", ["safety"]),
    "loss by place": ("", "losses=[dpo,kto]", ["safety"]),
    "loss": ("", "stages.safety.loss.name=ipo", ["safety"]),
    "smoothing": ("losses=[robust]", "stages.safety.loss.label_smoothing=0.2", ["safety"]),
    "weights of KTO": ("objective=kto", "stages.safety.loss.undesirable_weight=3", ["safety"]),
    # the rows that KTO's KL is estimated from, and that share a dropout mask
    "rows per device with a KL": ("objective=kto", "hardware.per_device_train_batch_size=4", ALL[1:]),
    "processes with a KL": ("objective=kto", "hardware.processes=2", ALL[1:]),
    "processes with dropout": ("adapter=lora adapter.lora_dropout=0.1", "hardware=cpu_x2", ALL),
    "trainer argument": ("", "++trainer.max_steps=3", ALL),
    "a stage's trainer argument": ("", "++stages.safety.trainer.max_steps=3", ["safety"]),
    "a stage's own data": ("", "dataset@stages.safety.dataset=demo", ["safety"]),
    "where labels of pairs come from": ("", "stages.safety.criterion.preferred=better_response_id", ["safety"]),
    "weight dtype": ("", "optimization.dtype=float16", ALL),
    "autocast": ("", "optimization.autocast=bfloat16", ALL),
    "length": ("", "optimization.max_length=200", ALL),
    "chat template": ("", "model.chat_template=null", ALL),
    "adapter": ("", "adapter=lora", ALL),
    "rank": ("adapter=lora", "adapter.r=8", ALL),
    "alpha": ("adapter=lora", "adapter.lora_alpha=8", ALL),
    "quantised weights": ("adapter=lora", "adapter.quantize=true", ALL),
}


@pytest.mark.parametrize(("both", "override", "changed"), CHANGES.values(), ids=list(CHANGES))
def test_the_id_of_a_stage_is_its_content(planned: Any, both: str, override: str, changed: list[str]) -> None:
    usual, other = planned(*PAPER, *both.split()), planned(*PAPER, *both.split(), *override.split())
    differing = [a.name for a, b in zip(usual.stages, other.stages, strict=True) if a.artifact.id != b.artifact.id]
    assert differing == changed


def test_bfloat16_alone_is_one_policy_on_all_hardware_and_another_than_with_a_float32_copy(planned: Any) -> None:
    alone, sharded = (planned("optimization=paper_bf16", f"hardware.zero_stage={zero}") for zero in (0, 3))
    copied = planned("optimization=paper", "hardware.zero_stage=3")
    assert ids(alone) == ids(sharded) == ids(planned("optimization=paper"))
    assert not {*ids(copied)} & {*ids(sharded)}


def test_the_seed_of_an_embedded_model_does_not_matter_but_that_of_random_weights_does(planned: Any) -> None:
    assert planned("seed=1").model.id == planned().model.id
    assert planned("model=tiny", "seed=1").model.id != planned("model=tiny").model.id


@pytest.mark.parametrize(("two", "one"), [("helpful_first", "helpful_only"), ("safety_first", "safety_only")])
def test_the_first_stage_is_the_one_stage_order_s_at_equal_beta(planned: Any, two: str, one: str) -> None:
    alone = planned(f"order={one}", "beta=0.2")
    assert ids(planned(f"order={two}", "earlier_betas=[0.2]"))[:2] == ids(alone)
    assert alone.policies["first"] == alone.stages[-1].artifact


def test_a_naive_merge_has_the_one_stage_orders_as_parents_each_with_its_own_beta(planned: Any) -> None:
    plan = planned("order=safety_first", "earlier_betas=[0.2]", "beta=0.05", "merge=naive", "merge_ratio=0.5")
    names = (("safety", 0.2), ("helpful", 0.05))
    alone = [planned(f"order={name}_only", f"beta={beta}").policies["first"] for name, beta in names]
    assert list(plan.merge.policies) == alone
    assert plan.merge.artifact.parents == tuple(spec.id for spec in alone)


def test_others_are_policies_that_nothing_is_trained_for(planned: Any) -> None:
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


def test_a_merge_of_two_has_both_stages_as_parents_and_depends_on_the_weights(planned: Any) -> None:
    half, quarter = planned("merge_ratio=0.5"), planned("merge_ratio=0.25")
    assert half.merge.artifact.parents == tuple(ids(half)[1:])
    assert half.merge.artifact.id != quarter.merge.artifact.id
    assert quarter.merge == planned("merge_weights=[0.75,0.25]").merge
    assert half.policies["merged"] == half.merge.artifact


@pytest.fixture
def third(tmp_path: Path) -> list[str]:
    """Overrides for three stages, the last one for a criterion of the user's own with data of its own."""
    folder = tmp_path / "conf" / "criterion"
    folder.mkdir(parents=True)
    (folder / "honesty.yaml").write_text(HONESTY)
    search = f"hydra.searchpath=[file://{folder.parent}]"
    return [search, "criterion=[helpfulness,safety,honesty]", "dataset@stages.honesty.dataset=demo"]


def test_a_weighted_merge_has_every_stage_as_parent_and_knows_its_lineage(planned: Any, third: list[str]) -> None:
    plan = planned(*third, "merge_weights=[0.2,0.3,0.5]", "earlier_betas=[0.4,0.2]")
    assert [made.name for made in plan.stages] == ["sft", "helpfulness", "safety", "honesty"]
    assert [made.parent.id for made in plan.stages] == [plan.model.id, *ids(plan)[:-1]]
    assert [made.artifact.parents for made in plan.stages] == [(made.parent.id, made.data.id) for made in plan.stages]
    assert list(plan.policies) == ["baseline", "first", "second", "third", "merged"]
    assert plan.merge.weights == (0.2, 0.3, 0.5)
    assert plan.merge.artifact.parents == tuple(ids(plan)[1:])
    assert plan.merge.artifact.recipe == {"method": "linear", "weights": [0.2, 0.3, 0.5]}
    policy = policy_of_spec(plan.merge.artifact)
    assert (policy.id, policy.name) == (plan.merge.artifact.id, "P-SACPO DPO(H)→DPO(S)→DPO(T) weights=0.2/0.3/0.5")
    assert [parent.id for parent in policy.parents] == ids(plan)[1:]
    assert (policy.criteria, policy.betas) == (("helpfulness", "safety", "honesty"), (0.4, 0.2, 0.1))
    assert policy.base.id == plan.model.id


def test_the_overrides_of_a_command_are_kept_beside_what_it_makes_and_in_no_id(planned: Any) -> None:
    typed = replace(FINGERPRINTS, overrides=("beta=0.1",))
    usual, again = planned("merge_ratio=0.5"), planned("merge_ratio=0.5", fingerprints=typed)
    assert [spec.id for spec in again.made()] == [spec.id for spec in usual.made()]
    assert [spec.labels["overrides"] for spec in again.made()] == [["beta=0.1"]] * 4


def test_a_stage_is_consistent_if_its_loss_is_and_no_argument_changes_it(planned: Any) -> None:
    def consistent(*overrides: str) -> list[bool]:
        return [each.is_consistent for each in policy_of_spec(planned(*overrides).stages[-1].artifact).aligned]

    assert consistent() == [True, True]
    assert consistent("losses=[dpo,ipo]") == [True, False]
    assert consistent("++trainer.max_grad_norm=0.5") == [True, True]
    assert consistent("++stages.helpfulness.trainer.use_weighting=true") == [False, True]


def test_a_view_is_prepared_once_for_all_stages_that_read_it(planned: Any) -> None:
    first, second = planned(), planned("order=safety_first", "losses=[ipo]")
    assert {made.data for made in second.stages} == {made.data for made in first.stages}
    views = [made.data.recipe["view"] for made in planned("objective=dpo_then_kto").stages]
    assert views == ["responses", "pairs", "labels"]


def test_ids_of_one_plan_differ_and_are_names_of_folders(planned: Any) -> None:
    specs = list(planned("merge_ratio=0.5").training())
    assert all(json.loads(json.dumps(spec.recipe)) == spec.recipe for spec in specs)
    assert len({spec.id for spec in specs}) == len(specs) == 8
    assert [spec.kind for spec in specs] == ["model", *["dataset"] * 3, *["stage"] * 3, "merge"]
    assert all(set(spec.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for spec in specs)
    assert specs[6].id.startswith("smollm2-135m.sft.dpo-h-b0.1.dpo-s-b0.1-")


def evaluation_ids(configure: Any, *overrides: str) -> list[str]:
    """Of the last policy's responses, scorer, scores and judgments."""
    config = configure(*overrides)
    plan = make_plan(config, FINGERPRINTS)
    responses = {name: responses_artifact(spec, config, FINGERPRINTS) for name, spec in plan.policies.items()}
    baseline, policy = (Entrant(name, responses[name]) for name in ("baseline", "second"))
    contest = Contest([], "demo", "", baseline, (baseline, policy), tuple(evaluated_criteria(config)))
    scorer = scorer_artifact(config.judge, config, FINGERPRINTS)
    scores = [scores_artifact(each, config.judge, config, FINGERPRINTS).id for each in (policy, baseline)]
    judgments = judgments_artifact(contest, (policy, baseline), config.judge, {}, {}, tuple(scores))
    return [policy.responses.id, scorer.id, scores[0], judgments.id]


#: Which of responses, scorer, scores and judgments are made anew.
EVALUATIONS = {
    "generation batch": ("hardware.generation_batch_size=1", [False, False, False, False]),
    "length": ("generation.max_new_tokens=9", [True, False, True, True]),
    "stop strings": ("model.stop=[USER]", [True, False, True, True]),
    "judge": ("judge.layer=3", [False, True, True, True]),
    "policy": ("beta=0.05", [True, False, True, True]),
}


@pytest.mark.parametrize(("override", "changed"), EVALUATIONS.values(), ids=list(EVALUATIONS))
def test_an_evaluation_is_made_anew(configure: Any, override: str, changed: list[bool]) -> None:
    pairs = zip(evaluation_ids(configure), evaluation_ids(configure, override), strict=True)
    assert [a != b for a, b in pairs] == changed


def test_fingerprints_follow_the_rows_and_not_their_name(configure: Any) -> None:
    usual = take_fingerprints(configure())
    assert replace(take_fingerprints(configure("dataset.name=renamed")), overrides=usual.overrides) == usual
    limited = take_fingerprints(configure("dataset.max_rows=10"))
    assert limited.datasets["dataset"] != usual.datasets["dataset"]
    assert (limited.prompts, limited.judge) == (usual.prompts, usual.judge)
    assert take_fingerprints(configure("prompts.limit=10")).prompts != usual.prompts
    own = take_fingerprints(configure("dataset@stages.safety.dataset=demo")).datasets
    assert list(own) == ["dataset", "stages.safety.dataset"]


def test_a_model_folder_is_known_by_its_content(configure: Any, model_folder: Path) -> None:
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


HEAD = "judge.heads.helpfulness.model"
FOLDERS = {
    "model.path={folder}": ["model=local"],
    "others=[{folder}]": [],
    f"{HEAD}.path={{folder}}": ["judge=reward_model", f"{HEAD}.source=path", f"{HEAD}.chat_template=x"],
}


@pytest.mark.parametrize("override", FOLDERS, ids=["model", "others", "judge"])
def test_a_model_folder_needs_safetensors(configure: Any, model_folder: Path, override: str) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    config = configure(*FOLDERS[override], override.format(folder=model_folder), command="eval")
    with pytest.raises(ConfigError, match=r"model must hold weights in safetensors .* only pytorch_model\.bin"):
        take_fingerprints(config)
    (model_folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds an adapter"):
        take_fingerprints(config)


def test_16_bit_weights_are_updated_alike_on_all_machines_with_zero_only(planned: Any) -> None:
    def ids_on(*machine: str) -> list[str]:
        return ids(planned(PAPER[0], "order=helpful_only", "base=none", *machine))

    offloaded = ("hardware=a100x1", "hardware.zero_stage=2", "hardware.offload_optimizer=cpu")
    assert ids_on("hardware=a100x8") == ids_on(*offloaded) == ids_on("hardware=multinode") != ids_on("hardware=a100x1")
    one, eight = (ids_on(PAPER[1], f"hardware={name}") for name in ("a100x1", "a100x8"))
    assert one == eight
