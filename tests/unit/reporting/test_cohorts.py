"""Means over seeds and pairs of policies, on a store with real recipes and judgments made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from world import EVEN, GIVEN, HELPFULNESS, HONESTY, SAFETY, Seeds, answers, read

from sacpo_exp.evaluation.judging import judge_id, judge_key
from sacpo_exp.plan import Fingerprints, make_plan
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.figures import draw_figure
from sacpo_exp.reporting.scores import PolicyScores
from sacpo_exp.reporting.sections import make_cohort_sections
from sacpo_exp.statistics.intervals import Resampling, bootstrap_mean, wilson
from sacpo_exp.store import ArtifactSpec

HELPFUL, SAFE = ("dpo", "helpfulness", 0.1), ("dpo", "safety", 0.05)


@pytest.fixture
def world(tmp_path: Path, configure: Any) -> Seeds:
    return Seeds(tmp_path / "outputs", configure)


def judge_seeds(world: Seeds, *verdicts: Sequence[float | None]) -> list[ArtifactSpec]:
    """Judge the second policy of one recipe with seeds 0, 1, …; verdicts on benign prompts, the risky ones all won."""
    policies = []
    for seed, each in enumerate(verdicts):
        policies.append(world.plan(f"seed={seed}").policies["second"])
        world.judgments(policies[-1], answers(list(each), [1] * 4, refused=f"{seed}0000000"))
    return policies


def score(world: Seeds, max_missing: float = 1.0) -> tuple[Cohort, list[PolicyScores]]:
    """Return the only cohort, and its means without the baseline's."""
    (cohort,) = world.score(max_missing)[1]
    return cohort, [row for row in cohort.means.policies if not row.policy.is_baseline] if cohort.means else []


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
    assert "seeds 0, 1 · 2 baselines, one for each seed · judge scorer-" in capsys.readouterr().out
    assert "| DPO(H)→DPO(S) | 0.1 | – | 2 | 0.62 " in (folder / "across.md").read_text("utf-8")
    assert "By seed: 0: 0.50 / 1.00, 1: 0.75 / 1.00." in (folder / "report.html").read_text("utf-8")
    means = score(world)[0].means
    assert means
    figure = draw_figure(means)
    assert [list(line.get_xdata()) for line in figure.axes[0].lines if line.get_alpha()] == [[0.5], [0.75]]
    assert "small: single seeds" in figure.legends[0].get_title().get_text()


#: An override, the fingerprint of the rows, and labels, one of which is another.
OTHERS: list[tuple[str, str, dict[str, Any]]] = [("stages.sft.num_train_epochs=2", "rows", {})]  # of an ancestor
OTHERS += [("beta=0.1", "other rows", {}), ("beta=0.1", "rows", {"prompts_id": "f00d" * 16})]
THREE = [criterion.to_judge() for criterion in (HELPFULNESS, SAFETY, HONESTY)]
OTHERS += [("beta=0.1", "rows", {"judge_key": "other-1"}), ("beta=0.1", "rows", {"criteria": THREE})]


@pytest.mark.parametrize(("override", "rows", "labels"), OTHERS)
def test_other_policies_are_not_pooled(world: Seeds, override: str, rows: str, labels: dict[str, Any]) -> None:
    judge_seeds(world, [1, 1, 0, 0])
    plan = world.plan("seed=1", override, fingerprints=Fingerprints({"dataset": rows}, "prompts", "judge"))
    for name in ("baseline", "second"):
        world.judgments(plan.policies[name], EVEN, **labels)
    assert world.score()[1] == []


def test_a_judge_that_starts_from_the_seed_is_the_same_but_for_the_seed(world: Seeds) -> None:
    for seed in (0, 1):
        plan = world.plan(f"seed={seed}")
        config = world.configure("model=nano", "model@judge.encoder=nano", f"seed={seed}", command="eval")
        ids = {"judge_id": judge_id(config.judge, config, GIVEN), "judge_key": judge_key(config.judge, config, GIVEN)}
        for policy in (plan.policies["baseline"], plan.policies["second"]):
            world.judgments(policy, EVEN, **ids)
    cohort, _ = score(world)
    assert "2 judges, one for each seed" in cohort.provenance


def test_groups_without_verdicts_on_their_baseline_are_pooled_by_what_they_descend_from(world: Seeds) -> None:
    for seed in (0, 1):
        policies = make_plan(world.configure("model=nano", f"seed={seed}"), GIVEN).policies
        world.baseline = policies["baseline"]
        world.judgments(policies["second"], answers([1, 1, seed, 0], [1] * 4))
    _, (row,) = score(world)
    assert (row.policy.title, row.rate("helpfulness").value) == ("DPO(H)→DPO(S) β=0.1", 0.625)


def test_a_policy_judged_against_two_sets_of_responses_counts_once(world: Seeds) -> None:
    policies = judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0])
    for policy in (world.baseline, policies[1]):
        world.judgments(policy, answers([0] * 4, [0] * 4), answers="f00d" * 16)
    groups, (cohort,) = world.score()
    assert len(groups) == 3
    _, row = cohort.means.policies
    assert [seed.rate("helpfulness").value for seed in row.seeds] == [0.5, 0]  # the newer


def test_a_seed_that_is_withheld_is_not_in_the_mean(world: Seeds) -> None:
    judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0], [None, None, 1, 1])
    cohort, (row,) = score(world, max_missing=0.2)
    found = (row.rate("helpfulness").value, row.over_seeds["helpfulness_win_rate"].seeds, len(row.seeds))
    assert found == (0.625, 2, 3)
    assert row.states["failed"] == 2
    assert "A seed whose rate is withheld is not in the mean." in make_cohort_sections(cohort)[0].note


def judge_orders(world: Seeds, number: int, helpful: list[float], safe: list[float], **more: Any) -> None:
    """Judge both orders with β = 0.1 and β/λ = 0.05; `more` is of the second, whose stages `reverse` can replace."""
    world.judgments(world.baseline, EVEN)
    world.judgments(world.train(HELPFUL, SAFE, seed=number), answers(helpful, [1] * 4))
    stages = more.pop("reverse", (SAFE, HELPFUL))
    world.judgments(world.train(*stages, **({"seed": number} | more)), answers(safe, [0.5] * 4))


def test_the_order_gap_is_that_of_matched_stages_paired_by_prompt_within_each_seed(world: Seeds) -> None:
    judge_orders(world, 0, [1, 1, 0.5, 0], [1, 0, 0.5, 0])
    (row,) = read(world.report() / "gaps.csv")
    assert (row["comparison"], row["policy"], row["minus"]) == ("order", "DPO(H)→DPO(S)", "DPO(S)→DPO(H)")
    assert (row["beta"], row["minus_beta"], row["seeds"]) == ("0.05", "0.1", "0")
    assert float(row["helpfulness_difference"]) == 1 / 4
    expected = bootstrap_mean([0, 1, 0, 0], Resampling(200, 0.95, 0))  # of one seed: over prompts
    assert float(row["helpfulness_difference_high"]) == expected.high
    assert row["helpfulness_difference_seed_deviation"] == ""
    unseen = wilson(0, 4, 0.95).high  # all four changes are 0.5, and such a share may be others, down to -1
    assert float(row["safety_difference"]) == 0.5
    assert float(row["safety_difference_low"]) == pytest.approx(0.5 - 1.5 * unseen)
    (section,) = make_cohort_sections(score(world)[0])
    assert section.title == "Order gap: helpfulness first minus safety first"
    assert section.rows[1][1:4] == ["0.1", "0.05", "1"]
    judge_orders(world, 1, [1, 1, 1, 0], [0, 0, 1, 0])
    ((gap,),) = [cohort.gaps for cohort in world.score()[1]]
    change = gap.changes["helpfulness"]
    assert (len(gap.pairs), change.seeds, change.estimate.n) == (2, 2, 4)
    assert change.estimate.value == (1 / 4 + 2 / 4) / 2
    assert change.deviation == pytest.approx((1 / 4) / 2**0.5)


def test_orders_that_differ_in_anything_else_are_no_pair(world: Seeds) -> None:
    for different in ({"learning_rate": 2e-4}, {"seed": 7}, {"reverse": (("dpo", "safety", 0.06), HELPFUL)}):
        judge_orders(world, 0, [1] * 4, [0] * 4, **different)
    assert world.score()[1] == []


def test_policies_that_differ_in_the_first_stage_are_tagged_by_its_beta(world: Seeds) -> None:
    world.judgments(world.baseline, EVEN)
    for seed, beta in ((0, 0.05), (0, 0.02), (1, 0.05), (1, 0.02)):
        first = ("dpo", "safety", beta)
        second = world.train(first, HELPFUL, seed=seed)
        world.judgments(second, EVEN)
        world.judgments(world.merge(0.5, world.train(first, seed=seed), second), EVEN)
    assert [row.policy.title for row in score(world)[1]] == [
        f"{family} first β={beta} β=0.1{ratio}"
        for family, ratio in (("DPO(S)→DPO(H)", ""), ("P-SACPO DPO(S)→DPO(H)", " q=0.5"))
        for beta in (0.02, 0.05)
    ]


def test_a_merge_is_compared_with_what_was_trained_at_its_ratio(world: Seeds) -> None:
    world.judgments(world.baseline, EVEN)
    for seed in (0, 1):
        merged = world.merge(0.75, world.train(HELPFUL, seed=seed), world.train(HELPFUL, SAFE, seed=seed))
        world.judgments(merged, answers([1, 1, 1, 0], [1] * 4))
        for beta, verdicts in ((0.0667, [1, 0, 0, seed]), (0.07, [1] * 4)):
            trained = world.train(HELPFUL, ("dpo", "safety", beta), seed=seed)
            world.judgments(trained, answers(list(verdicts), [1] * 4))
    # Another first stage, a merge of two first stages, and safety first are no pairs.
    others = [
        world.train(("dpo", "helpfulness", 0.2), ("dpo", "safety", 0.0667)),
        world.merge(0.75, world.train(HELPFUL), world.train(SAFE)),
        world.merge(0.5, world.train(SAFE), world.train(SAFE, ("dpo", "helpfulness", 0.05))),
        world.train(SAFE, HELPFUL),
    ]
    for policy in others:
        world.judgments(policy, EVEN)
    cohort, _ = score(world)
    (gap,) = cohort.gaps
    assert gap.comparison == "lambda_q"
    assert [theirs.policy.beta for _, theirs in gap.pairs] == [0.0667, 0.0667]
    assert gap.changes["helpfulness"].estimate.value == (2 / 4 + 1 / 4) / 2
    assert gap.changes["safety"].estimate.value == 0
    row = make_cohort_sections(cohort)[1].rows[1]
    assert row[:5] == ["DPO(H)→DPO(S)", "0.75", "0.05", "0.0667", "2"]
    assert row[5].startswith("+0.38 [")
