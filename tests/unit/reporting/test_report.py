"""Tests of `report` on real files, written through the real store."""

import contextlib
import csv
import io
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from world import EVEN, HONESTY, HS, H, World, answers, read

from sacpo_exp.errors import MissingArtifactError, StoreError
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.tables import to_csv

FILES = ["table.csv", "differences.csv", "lengths.csv", "table.md", "trade_off.png", "trade_off.svg", "report.html"]


def make_world(outputs: Path) -> World:
    """Baseline, first, second and merged policy, all judged."""
    world = World(outputs)
    first, second = world.train(H), world.train(*HS)
    merged = world.merge(0.5, first, second)
    world.judgments(merged, answers([1, 0.5, 1, 0.5], [0.5, 1, 0, 1], text="Maybe."))
    world.judgments(second, answers([0, 0.5, None, 0], [1, 1, 1, 1], refused="10001111", text="No.", size=4))
    world.judgments(first, answers([1, 1, 1, 0], [0, 0, 0.5, 0]))
    world.judgments(world.baseline, answers([0.5] * 4, [0.5] * 4, text="Well."))
    world.divergence(second, [("p0", 1.0), ("p0", 3.0), ("p1", 5.0)])
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "outputs")


def print_report(world: World, **settings: Any) -> str:
    """What a report prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        world.report(**settings)
    return printed.getvalue()


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """The world after one report, and what that printed."""
    world = make_world(tmp_path_factory.mktemp("reported"))
    return world, print_report(world)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """The same with a policy that nobody could judge, a long name, and another loss."""
    world = make_world(tmp_path_factory.mktemp("odd"))
    world.judgments(world.elsewhere("lost"), answers([None] * 4, [None] * 4), model="nano")
    world.judgments(world.elsewhere("y" * 150), answers([1] * 4, [0] * 4), model="nano")
    world.judgments(world.train(H, ("kto", "safety", 0.1)), answers([1] * 4, [1] * 4))
    return world, print_report(world)


def test_table_has_the_numbers_done_by_hand_in_the_order_of_training(reported: tuple[World, str]) -> None:
    baseline, first, second, merged = read(reported[0].folder / "table.csv")
    assert [row["policy"] for row in (baseline, first)] == ["SFT (baseline)", "DPO(H) β=0.1"]
    assert merged["policy"] == "P-SACPO DPO(H)→DPO(S) β=0.05 q=0.5"
    assert float(first["helpfulness_win_rate"]) == 3 / 4
    assert float(first["safety_win_rate"]) == 0.5 / 4
    assert float(second["helpfulness_win_rate"]) == pytest.approx(0.5 / 3)
    assert (second["helpfulness_win_rate_n"], second["safety_win_rate_n"], second["failed"]) == ("3", "4", "1")
    assert float(second["refusal_rate_risky"]) == 1
    assert float(second["refusal_rate_benign"]) == 1 / 4  # a judgment that failed takes no refusal with it
    assert (float(first["helpfulness_without_ties"]), first["helpfulness_without_ties_n"]) == (3 / 4, "4")
    assert (float(merged["helpfulness_without_ties"]), merged["helpfulness_without_ties_n"]) == (1, "2")
    assert float(merged["helpfulness_without_ties_low"]) == pytest.approx(1 / (1 + 1.959964**2 / 2))  # Wilson's
    assert baseline["helpfulness_without_ties"] == ""
    assert float(second["kl_nats"]) == (2 + 5) / 2  # mean over prompts of the means over samples
    assert second["kl_nats_n"] == "2"
    assert float(second["mean_tokens"]) == 4
    rows = {(row["policy"], row["criterion"]): row for row in read(reported[0].folder / "lengths.csv")}
    row = rows[second["policy"], "helpfulness"]  # it says less than the baseline; of prompts with a verdict
    assert (float(row["shorter"]), row["shorter_n"], row["longer_n"]) == (pytest.approx(0.5 / 3), "3", "0")


def test_what_was_not_measured_is_blank_or_a_dash_but_never_zero(odd: tuple[World, str]) -> None:
    world, printed = odd
    lost = next(row for row in read(world.folder / "table.csv") if row["family"] == "lost")
    blank = ("helpfulness_win_rate", "helpfulness_standard_error", "safety_acceptable", "kl_nats")
    assert [lost[key] for key in blank] == [""] * 4
    assert (lost["failed"], lost["refusal_rate_risky"], lost["mean_tokens"]) == ("8", "0.0", "10.0")
    line = next(line.split() for line in printed.splitlines() if line.startswith("lost  "))
    assert line == ["lost", "–", "–", "–", "–", "–", "–", "–/–", "8"]


def test_differences_are_from_the_nearest_evaluated_ancestors_and_paired(reported: tuple[World, str]) -> None:
    rows = {(row["policy"], row["minus"]): row for row in read(reported[0].folder / "differences.csv")}
    second, merged = "DPO(H)→DPO(S) β=0.05", "P-SACPO DPO(H)→DPO(S) β=0.05 q=0.5"
    pairs = [("DPO(H) β=0.1", "SFT (baseline)"), (second, "DPO(H) β=0.1"), (merged, "DPO(H) β=0.1"), (merged, second)]
    assert list(rows) == pairs
    row = rows[second, "DPO(H) β=0.1"]
    assert float(row["helpfulness_difference"]) == pytest.approx(((0 - 1) + (0.5 - 1) + (0 - 0)) / 3)  # p2 failed
    assert (row["helpfulness_difference_n"], row["helpfulness_excludes_zero"]) == ("3", "False")
    assert float(row["safety_difference"]) == (1 + 1 + 0.5 + 1) / 4
    assert row["safety_excludes_zero"] == "True"
    cells = [
        (row[f"{name}_p_value"], row[f"{name}_p_holm"]) for row in rows.values() for name in ("helpfulness", "safety")
    ]
    pairs = sorted(tuple(map(float, cell)) for cell in cells)
    by_hand = accumulate((min(1, (8 - rank) * p_value) for rank, (p_value, _) in enumerate(pairs)), max)
    assert [adjusted for _, adjusted in pairs] == pytest.approx(list(by_hand))
    assert {row["comparisons"] for row in rows.values()} == {"8"}


def test_an_ancestor_that_is_not_evaluated_is_stepped_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    policy = world.train(*HS)
    world.judgments(policy, answers([0] * 4, [1] * 4))
    assert world.scored().group.parents[policy.id] == ()
    world.judgments(world.baseline, EVEN)
    assert world.scored().group.parents[policy.id] == (world.baseline.id,)


def test_terminal_is_at_most_120_wide_and_has_all_numbers(odd: tuple[World, str]) -> None:
    world, printed = odd
    assert max(map(len, printed.replace(str(world.folder), "report").splitlines())) <= 120
    assert printed.startswith("nano · demo · judge scorer · prompts demo\n")
    assert "+0.88 [+0.62, +1.00] *" in printed  # second minus first, safety
    assert "held-out    0.75 [0.65, 0.83]          0.70         0.50     0.62  80" in printed  # Wilson for 60 of 80
    assert "Theorem 1 does not hold for KTO(S)" in printed
    assert printed.splitlines()[-7:] == [str(world.folder / name) for name in FILES]


def test_the_same_store_gives_the_same_bytes(reported: tuple[World, str]) -> None:
    world, printed = reported
    before = {name: (world.folder / name).read_bytes() for name in FILES}
    assert sorted(path.name for path in world.folder.iterdir()) == sorted(FILES)
    assert print_report(world) == printed
    assert {name: (world.folder / name).read_bytes() for name in FILES} == before
    assert before["trade_off.png"].startswith(b"\x89PNG")


OTHERS = [{"judge": "other", "judge_id": "other-1"}, {"answers": "other"}, {"criteria": [HONESTY.to_judge()]}]


@pytest.mark.parametrize("labels", OTHERS)
def test_only_what_shares_judge_baseline_and_criteria_is_compared(world: World, labels: dict[str, Any]) -> None:
    world.judgments(world.train(("dpo", "safety", 0.1)), answers([0] * 4, [1] * 4), **labels)
    first, second = collect_groups(world.store, None, None)
    assert (len(first.policies), [policy.policy.family for policy in second.policies]) == (4, ["DPO(S)"])
    assert f"judge {labels.get('judge', 'scorer')}" in second.heading


def test_filters_keep_the_baseline_and_remove_files_of_groups_no_longer_shown(world: World) -> None:
    local = world.train(("dpo", "safety", 0.1), dataset="local")
    world.judgments(local, answers([0] * 4, [1] * 4))
    world.judgments(local, answers([0] * 4, [1] * 4), judge="other", judge_id="other-1", dataset="third")
    assert (world.report() / "trade_off-2.svg").is_file()
    folder = world.report(dataset="local")
    assert [row["family"] for row in read(folder / "table.csv")] == ["SFT", "DPO(S)"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    with pytest.raises(MissingArtifactError, match=r"with model=nona\. There is: model=nano dataset=demo; .*local"):
        world.report(model="nona")


def test_policies_that_would_have_the_same_title_are_told_apart(world: World) -> None:
    for seed in (1, 2):
        twin = world.train(("kto", "safety", 1.0), seed=seed)
        world.judgments(twin, answers([0] * 4, [1] * 4))
    titles = [row.policy.title for row in world.scored().policies]
    assert titles[2:4] == ["KTO(S) seed=1 β=1", "KTO(S) seed=2 β=1"]
    twin = world.train(("kto", "safety", 1.0), seed=2, learning_rate=1)
    world.judgments(twin, answers([0] * 4, [1] * 4))
    titles = [row.policy.title for row in world.scored().policies]
    assert len(set(titles)) == len(titles)
    assert f"KTO(S) #{twin.id[-10:-6]} β=1" in titles


def test_damage_is_named_rather_than_drawn(world: World) -> None:
    path = next(world.store.root.glob("judgments/dpo*/verdicts.jsonl"))
    path.write_text(path.read_text("utf-8").replace("1", "0"), "utf-8")
    with pytest.raises(StoreError, match=r"is damaged: verdicts.jsonl has another content .* prune --damaged"):
        world.report()


def test_nothing_evaluated_is_said_with_the_next_command_and_without_torch(cli: Any) -> None:
    done = cli("report", light=True)
    assert done.code == 2
    assert done.stderr.startswith("error: nothing has been evaluated in outputs/store yet. Try: sacpo eval")


def test_a_report_never_imports_torch(world: World, cli: Any) -> None:
    arguments = (f"paths.outputs={world.outputs}", "bootstrap_rounds=200")
    done = cli("report", *arguments, light=True, allowed=["pandas", "seaborn"])
    assert done.code == 0, done.stderr
    assert str(world.outputs / "report" / "trade_off.svg") in done.stdout


def test_cells_of_text_are_no_formulas_and_numbers_stay_numbers() -> None:
    cells = ["=1+1", "+1", "-x", "@SUM(A1)", " =1", "a=1", "", -1.5, -2, 1e-9, None, math.nan]
    (written,) = list(csv.reader(io.StringIO(to_csv([dict(enumerate(cells))]))))[1:]
    assert written == ["'=1+1", "'+1", "'-x", "'@SUM(A1)", "' =1", "a=1", "", "-1.5", "-2", "1e-09", "", ""]
