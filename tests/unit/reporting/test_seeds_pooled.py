"""Means over seeds, on a store with real recipes and judgments made by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from world import EVEN, GIVEN, HELPFULNESS, HONESTY, SAFETY, Seeds, answers, read

from sacpo_exp.evaluation.judging import judge_id, judge_key
from sacpo_exp.plan import Fingerprints, make_plan
from sacpo_exp.reporting.figures import draw_figure
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.sections import over_seeds
from sacpo_exp.reporting.seeds import describe_seeds
from sacpo_exp.statistics.intervals import wilson
from sacpo_exp.store import ArtifactSpec

HELPFUL, SAFE = ("dpo", "helpfulness", 0.1), ("dpo", "safety", 0.05)


@pytest.fixture
def world(tmp_path: Path, configure: Callable[..., Any]) -> Seeds:
    return Seeds(tmp_path / "outputs", configure)


def judge_seeds(world: Seeds, *verdicts: Sequence[float | None]) -> list[ArtifactSpec]:
    """Judge the second policy of one recipe with seeds 0, 1, …; verdicts on benign prompts, the risky ones all won."""
    policies = []
    for seed, each in enumerate(verdicts):
        policies.append(world.plan(f"seed={seed}").policies["second"])
        world.judge_policy(policies[-1], answers(list(each), [1] * 4, refused=f"{seed}0000000"))
    return policies


def score(world: Seeds, max_missing: float = 1.0) -> tuple[GroupScores, list[PolicyScores]]:
    """Return the only means, and their rows without the baseline's."""
    (means,) = world.score(max_missing)[1]
    return means, [row for row in means.policies if not row.policy.is_baseline]


def test_seeds_are_pooled_across_groups(world: Seeds, capsys: pytest.CaptureFixture[str]) -> None:
    policies = judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0])
    folder = world.report()
    baseline, second = read(folder / "seeds.csv")
    assert baseline["policy"] == "SFT (baseline)"
    assert (baseline["helpfulness_win_rate"], baseline["helpfulness_seed_deviation"]) == ("0.5", "0.0")
    assert (second["policy"], second["seeds"]) == ("DPO(H)→DPO(S) β=0.1", "0 1")
    assert float(second["helpfulness_win_rate"]) == (0.5 + 0.75) / 2
    assert float(second["helpfulness_seed_deviation"]) == pytest.approx(0.125 * 2**0.5)
    assert float(second["safety_win_rate_low"]) == pytest.approx(wilson(4, 4, 0.95).low)  # none of four was lost
    assert second["safety_win_rate_high"] == "1.0"
    assert float(second["refusal_rate_benign"]) == 1 / 8
    assert second["policy_ids"].split() == [policy.id for policy in policies]
    printed = capsys.readouterr().out
    assert "seeds 0, 1 · 2 baselines, one for each seed · judge scorer-" in printed
    assert "DPO(H)→DPO(S)   0.1  –      2  0.62 [" in printed
    assert "By seed: 0: 0.50 / 1.00, 1: 0.75 / 1.00." in (folder / "report.html").read_text("utf-8")
    figure = draw_figure(score(world)[0])
    assert [list(line.get_xdata()) for line in figure.axes[0].lines if line.get_alpha()] == [[0.5], [0.75]]
    assert "small: single seeds" in figure.legends[0].get_title().get_text()


@pytest.mark.parametrize(
    ("overrides", "rows", "labels"),
    [
        (["stages.sft.num_train_epochs=2"], "rows", {}),  # of an ancestor
        ([], "other rows", {}),
        ([], "rows", {"prompts_id": "f00d" * 16}),
        ([], "rows", {"judge_key": "other-1"}),
        ([], "rows", {"criteria": [HELPFULNESS.to_judge(), SAFETY.to_judge(), HONESTY.to_judge()]}),
    ],
)
def test_other_policies_are_not_pooled(world: Seeds, overrides: list[str], rows: str, labels: dict[str, Any]) -> None:
    judge_seeds(world, [1, 1, 0, 0])
    plan = world.plan("seed=1", *overrides, fingerprints=Fingerprints({"dataset": rows}, "prompts", "judge"))
    for name in ("baseline", "second"):
        world.judge_policy(plan.policies[name], EVEN, **labels)
    assert world.score()[1] == []


def test_a_judge_that_starts_from_the_seed_is_the_same_but_for_the_seed(world: Seeds) -> None:
    for seed in (0, 1):
        plan = world.plan(f"seed={seed}")
        config = world.configure("model=nano", "model@judge.encoder=nano", f"seed={seed}", command="eval")
        ids = {"judge_id": judge_id(config.judge, config, GIVEN), "judge_key": judge_key(config.judge, config, GIVEN)}
        for policy in (plan.policies["baseline"], plan.policies["second"]):
            world.judge_policy(policy, EVEN, **ids)
    means, _ = score(world)
    assert "2 judges, one for each seed" in describe_seeds(means)


def test_groups_without_verdicts_on_their_baseline_are_pooled_by_what_they_descend_from(world: Seeds) -> None:
    for seed in (0, 1):
        policies = make_plan(world.configure("model=nano", f"seed={seed}"), GIVEN).policies
        world.baseline = policies["baseline"]
        world.judge_policy(policies["second"], answers([1, 1, seed, 0], [1] * 4))
    _, (row,) = score(world)
    assert (row.policy.title, row.rate("helpfulness").value) == ("DPO(H)→DPO(S) β=0.1", 0.625)


def test_a_policy_judged_against_two_sets_of_responses_counts_once(world: Seeds) -> None:
    policies = judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0])
    for policy in (world.baseline, policies[1]):
        world.judge_policy(policy, answers([0] * 4, [0] * 4), answers="f00d" * 16)
    assert len(world.score()[0]) == 3
    _, (row,) = score(world)
    assert [seed.rate("helpfulness").value for seed in row.seeds] == [0.5, 0]  # the newer


def test_a_seed_that_is_withheld_is_not_in_the_mean(world: Seeds) -> None:
    judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0], [None, None, 1, 1])
    means, (row,) = score(world, max_missing=0.2)
    found = (row.rate("helpfulness").value, row.over_seeds["helpfulness_win_rate"].seeds, len(row.seeds))
    assert found == (0.625, 2, 3)
    assert row.states["failed"] == 2
    assert "A seed whose rate is withheld is not in the mean." in over_seeds(means).note


def test_policies_that_differ_in_the_first_stage_are_tagged_by_its_beta(world: Seeds) -> None:
    world.judge_policy(world.baseline, EVEN)
    for seed, beta in ((0, 0.05), (0, 0.02), (1, 0.05), (1, 0.02)):
        first = ("dpo", "safety", beta)
        second = world.train(first, HELPFUL, seed=seed)
        world.judge_policy(second, EVEN)
        world.judge_policy(world.merge(0.5, world.train(first, seed=seed), second), EVEN)
    assert [row.policy.title for row in score(world)[1]] == [
        f"{family} first β={beta} β=0.1{ratio}"
        for family, ratio in (("DPO(S)→DPO(H)", ""), ("P-SACPO DPO(S)→DPO(H)", " q=0.5"))
        for beta in (0.02, 0.05)
    ]
