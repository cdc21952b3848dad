"""Reports of any number of criteria: as many columns everywhere, two of them as axes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import read_data
from world import HELPFULNESS, HONESTY, HS, SAFETY, H, World, answers, read

from sacpo_exp.config.schema import FigureForm
from sacpo_exp.errors import ConfigError
from sacpo_exp.reporting.figures import draw_figure, find_families, plain_style

NAMES = ["helpfulness", "honesty", "safety"]
STAGES = (H, ("dpo", "honesty", 0.2), ("dpo", "safety", 0.05))
MERGED = "P-SACPO DPO(H)→DPO(T)→DPO(S) β=0.05 weights=0.2/0.3/0.5"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three stages and their merge, judged by three criteria, of which one counts on every prompt."""
    world = World(tmp_path / "outputs", [HELPFULNESS, HONESTY, SAFETY])
    world.judgments(world.baseline, answers([0.5] * 4, [0.5] * 4, honesty=[0.5] * 8))
    made = [world.train(*STAGES[:count]) for count in (1, 2, 3)]
    made.append(world.merge((0.2, 0.3, 0.5), *made))
    for place, policy in enumerate(made):
        honest = [float(prompt <= 2 * place) for prompt in range(8)]
        world.judgments(policy, answers([1, 1, 1, 0], [0, 1, 0.5, float(place > 1)], honesty=honest))
    return world


def test_a_third_criterion_has_its_columns_everywhere(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    folder = world.report(figures=FigureForm.paper, x="honesty")
    table = read(folder / "table.csv")
    assert [row["policy"] for row in table][1:4:2] == ["DPO(H) β=0.1", "DPO(H)→DPO(T)→DPO(S) β=0.05"]
    assert table[-1]["policy"] == MERGED
    assert [float(row["honesty_win_rate"]) for row in table] == [0.5, 1 / 8, 3 / 8, 5 / 8, 7 / 8]
    assert [row["honesty_win_rate_n"] for row in table] == ["8"] * 5
    differences = {(row["policy"], row["minus"]): row for row in read(folder / "differences.csv")}
    assert len(differences) == 1 + 1 + 1 + 3  # a merge against each that it averages
    row = differences["DPO(H)→DPO(T)→DPO(S) β=0.05", "DPO(H)→DPO(T) β=0.2"]
    assert float(row["honesty_difference"]) == 2 / 8
    assert [row["criterion"] for row in read(folder / "lengths.csv")] == NAMES * 4
    printed = capsys.readouterr().out
    heads = [line.split() for line in printed.splitlines() if line.startswith("policy ")]
    assert heads[0] == ["policy", "β", "q", *NAMES, "n", "missing"]
    assert heads[2] == ["policy", "minus", *NAMES, "n"]
    assert "Helpfulness on benign, honesty on all, safety on risky prompts" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith(str(world.outputs))) <= 120
    assert {path.name for path in folder.glob("panels*")} == {"panels.pdf", "panels.png"}
    (group,) = read_data(folder / "report.html")["groups"]
    assert list(group["policies"][1]["verdicts"]) == group["criteria"] == NAMES
    assert "<title>DPO(H) β=0.1; honesty 0.12 [" in (folder / "report.html").read_text("utf-8")


def test_axes_are_those_that_are_asked_for_or_the_first_two(world: World) -> None:
    (axes,) = draw_figure(world.scored(("safety", "honesty"))).axes
    assert axes.get_xlabel() == "safety: win rate on risky prompts"
    assert axes.get_ylabel() == "honesty: win rate on all prompts"
    assert world.scored(("safety", "brevity")).axes == ("helpfulness", "honesty")
    with pytest.raises(ConfigError, match=r"`y` must be .*, helpfulness or honesty or safety, but is honest"):
        world.report(y="honest")


def test_points_of_a_family_are_joined_where_only_weights_differ(world: World) -> None:
    made = [world.train(*STAGES[:count]) for count in (1, 2, 3)]
    world.judgments(world.merge((0.5, 0.3, 0.2), *made), answers([1] * 4, [1] * 4, honesty=[1] * 8))
    other = world.train(*STAGES[:2], ("dpo", "safety", 0.01))
    world.judgments(world.merge((0.5, 0.3, 0.2), *made[:2], other), answers([1] * 4, [1] * 4, honesty=[1] * 8))
    (family,) = [each for each in find_families(world.scored()) if each.name.startswith("P-SACPO")]
    assert sorted(map(len, family.lines)) == [1, 2]
    assert "weights=0.5/0.3/0.2 β=0.01" in map(family.label, family.points)


def test_means_and_gaps_have_every_criterion(world: World) -> None:
    orders = ((H, STAGES[2]), (STAGES[2], H))
    for seed in (0, 1):
        for place, stages in enumerate(orders):
            honest = [float(prompt < 4 + 2 * place + seed) for prompt in range(8)]
            world.judgments(world.train(*stages, seed=seed), answers([1] * 4, [1] * 4, honesty=honest))
    (cohort,) = world.score()[1]
    assert cohort.means
    means = {row.policy.title: row for row in cohort.means.policies}
    row = means["DPO(H)→DPO(S) β=0.05"]
    assert row.rate("honesty").value == (4 / 8 + 5 / 8) / 2
    assert row.over_seeds["honesty_win_rate"].deviation == pytest.approx(1 / 8 / 2**0.5)
    (gap,) = cohort.gaps
    assert [ours.policy.policy.family for ours, _ in gap.pairs] == ["DPO(H)→DPO(S)"] * 2
    assert gap.changes["honesty"].estimate.value == -2 / 8


def test_a_report_of_one_criterion_has_the_share_of_acceptable_responses(tmp_path: Path) -> None:
    world = World(tmp_path / "outputs", [SAFETY])
    records = answers([1] * 4, [1, 1, 0, 0])
    records[-1]["safety"]["score"] = -2.0
    world.judgments(world.baseline, records, has_zero=["helpfulness", "safety"])  # the judge knows another one too
    (row,) = read(world.report(figures=FigureForm.paper) / "table.csv")
    assert (row["safety_acceptable"], row["safety_acceptable_n"]) == ("0.75", "4")
    assert not [name for name in row if name.startswith("helpfulness")]


def test_a_reward_and_a_cost_model_give_means_a_safe_rate_and_a_figure_of_both(tmp_path: Path) -> None:
    world = World(tmp_path / "outputs")
    labels: dict[str, Any] = {"measures": {"helpfulness": "reward", "safety": "cost"}, "has_zero": ["safety"]}
    for policy, shift in ((world.baseline, 0), (world.train(H), 3)):
        records = answers([1] * 4, [0, 1, 1, 1])
        for place, record in enumerate(records):  # costs are 1, 0, -1, -2 of the baseline, with the sign turned
            record["helpfulness"] = record["helpfulness"] | {"score": place + shift}
            record["safety"] = record["safety"] | {"score": place - 5 - shift}
        world.judgments(policy, records, **labels)
    baseline, first = read(world.report() / "table.csv")
    assert [float(row["helpfulness_reward"]) for row in (baseline, first)] == [1.5, 4.5]
    assert [float(row["safety_cost"]) for row in (baseline, first)] == [-0.5, 2.5]
    assert [float(row["safety_acceptable"]) for row in (baseline, first)] == [0.75, 0]
    assert float(first["safety_cost_low"]) < 2.5 < float(first["safety_cost_high"]) < 4
    assert "## Rewards and costs" in (world.folder / "table.md").read_text("utf-8")
    assert (world.folder / "rewards.svg").is_file()
    with plain_style():
        axes = draw_figure(replace(world.scored(), by_score=True)).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1.5, -0.5]]
    assert (axes.get_xlabel(), axes.yaxis_inverted()) == ("helpfulness: mean reward on benign prompts", True)
    world.judgments(world.train(*HS), answers([1] * 4, [1] * 4))  # judged before such scores were kept apart
    assert not world.scored().group.measures
