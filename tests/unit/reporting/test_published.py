"""Published numbers: what is shipped, files of users, which of ours they belong to, and the differences by hand."""

import math
import re
from pathlib import Path

import pytest
from made_up import read_titles
from world import EVEN, H, World, answers, read

from sacpo_exp.config.schema import FigureForm
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.reporting.published import compare_with, read_published

#: As printed, with the labels corrected: family, β, q, helpfulness, safety.
TABLE_3 = """
    DPO(H)                .1   -   .792 .490    DPO(H)→KTO(S)         .01  -   .498 .454
    KTO(H)                .1   -   .678 .458    DPO(H)→KTO(S)         .025 -   .479 .491
    DPO(S)                .01  -   .605 .811    DPO(H)→KTO(S)         .05  -   .556 .530
    beaver-7b-v1.0        -    -   .596 .692    DPO(H)→KTO(S)         .1   -   .660 .524
    DPO(H)→DPO(S)         .01  -   .627 .793    KTO(H)→DPO(S)         .01  -   .595 .856
    DPO(H)→DPO(S)         .025 -   .685 .805    KTO(H)→DPO(S)         .025 -   .725 .789
    DPO(H)→DPO(S)         .05  -   .722 .697    KTO(H)→DPO(S)         .05  -   .681 .730
    DPO(H)→DPO(S)         .1   -   .731 .572    KTO(H)→DPO(S)         .1   -   .734 .676
    DPO(S)→DPO(H)         .01  -   .428 .696    P-SACPO~DPO(H)→DPO(S) .01  .25 .798 .545
    DPO(S)→DPO(H)         .025 -   .638 .761    P-SACPO~DPO(H)→DPO(S) .01  .5  .787 .651
    DPO(S)→DPO(H)         .05  -   .672 .738    P-SACPO~DPO(H)→DPO(S) .01  .75 .764 .768
    DPO(S)→DPO(H)         .1   -   .672 .807    naive~DPO(H)+DPO(S)   .01  .25 .816 .588
    naive~DPO(H)+DPO(S)   .01  .5  .759 .617    naive~DPO(H)+DPO(S)   .01  .75 .694 .690
"""

ROW = "{stages: [[dpo, helpfulness, 0.1]], rates: {helpfulness: 0.75, safety: 0.5}, source: made up}"
STAGES = "stages: [[dpo, helpfulness, 0.1]]"
HEAD = """title: A table
short: Somebody 2024
url: https://example.org
judge: a judge
model: nano
dataset: demo
prompts: demo
counts: {helpfulness: 4, safety: 4}
rows:
"""


def write(folder: Path, *rows: str, head: str = HEAD) -> str:
    path = folder / "numbers.yaml"
    path.write_text(head + "".join(f"  - {row}\n" for row in rows), "utf-8")
    return str(path)


def test_the_shipped_rows_are_those_of_the_paper_with_its_labels_corrected() -> None:
    rows = read_published("sacpo_table3", 0.95).rows
    expected, found = set(), set()
    cells = re.findall(r"(\S+) +(\S+) +(\S+) +(\.\d+) (\.\d+)", TABLE_3)
    for family, *numbers in cells:
        expected.add((family.replace("~", " "), *(None if cell == "-" else float(cell) for cell in numbers)))
    for row in rows:
        policy, rates = row.policy.policy, [round(row.rate(name).value, 12) for name in ("helpfulness", "safety")]
        found.add((policy.family, policy.beta, policy.merge_ratio, *rates))
        # Where helpfulness comes first its stage has 0.1, where safety comes first that has 0.01.
        if (beta := policy.columns["beta_first"]) is not None:
            assert beta == (0.01 if policy.family.startswith("DPO(S)") else 0.1)
    assert len(rows) == len(cells) == 26
    assert found == expected
    assert {row.policy.title for row in rows if row.config.note} == {
        "DPO(S)→DPO(H) β=0.1",
        "naive DPO(H)+DPO(S) β=0.01 q=0.25",
        "naive DPO(H)+DPO(S) β=0.01 q=0.75",
    }


def test_a_mistake_in_a_file_is_reported_in_one_sentence(tmp_path: Path) -> None:
    for row, head, expected in (
        (ROW.replace("0.75", "1.5"), HEAD, r"rows.0.rates.helpfulness: .*less than or equal to 1\."),
        (ROW.replace("dpo", "dpp"), HEAD, r"rows\[0\] has the loss dpp; there are sft, dpo, "),
        (ROW.replace(f"{STAGES}, ", ""), HEAD, r"rows\[0\] needs either `stages` or a `name`"),
        (ROW.replace(", safety: 0.5", ""), HEAD, r"rows\[0\].rates must be of helpfulness, safety"),
        (ROW, "a: [\n", "can't be read as yaml: "),
        (f"{ROW}\n  - {ROW}", HEAD, r"rows\[1\] repeats the policy of an earlier row, DPO\(H\)"),
    ):
        path = write(tmp_path, row, head=head)
        with pytest.raises(DataError, match=expected) as caught:
            read_published(path, 0.95)
        assert str(caught.value).startswith(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"one of sacpo_table3, or a yaml file.* but is sacpo_tabel3\. Did you"):
        read_published("sacpo_tabel3", 0.95)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The baseline and DPO(H), which wins three of four and a half of four."""
    world = World(tmp_path / "outputs")
    world.judgments(world.baseline, EVEN)
    world.judgments(world.train(H), answers([1, 1, 1, 0], [0, 0, 0.5, 0]))
    return world


def test_the_difference_and_its_interval_by_hand(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROW.replace("0.75", "0.25"), ROW.replace("dpo", "kto"), ROW.replace(STAGES, "name: other")]
    folder = world.report(against=write(world.outputs, *rows, head=HEAD.replace("safety: 4", "safety: 400")))
    ours, *missing = read(folder / "published.csv")
    # Wilson's limits for 3 of 4 and 1 of 4, z = 1.96: (0.3006, 0.9544) and its mirror (0.0456, 0.6994).
    assert float(ours["helpfulness_own"]) == 0.75
    assert float(ours["helpfulness_difference"]) == 0.5
    low, high = 0.5 - math.hypot(0.75 - 0.3006, 0.6994 - 0.25), 0.5 + math.hypot(0.9544 - 0.75, 0.25 - 0.0456)
    found = [float(ours[f"helpfulness_difference_{end}"]) for end in ("low", "high")]
    assert found == pytest.approx([low, high], abs=2e-4)
    assert ours["helpfulness_excludes_zero"] == "False"
    assert float(ours["safety_difference"]) == 0.125 - 0.5
    assert [row["published"] for row in missing] == ["KTO(H) β=0.1", "other"]
    assert {row["policy"] + row["helpfulness_difference"] + row["helpfulness_excludes_zero"] for row in missing} == {""}
    printed = capsys.readouterr().out
    assert "Helpfulness beside Somebody 2024" in printed
    assert "Other judge: a judge there, scorer (scorer-" in printed
    assert "Other model" not in printed  # the same there and here
    assert "0 of our policies, the baseline apart, have no published row." in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith(str(world.outputs))) <= 120
    assert {"Helpfulness beside Somebody 2024", "Safety beside Somebody 2024"} <= {*read_titles(folder / "report.html")}
    assert (folder / "panels.pdf").is_file()
    assert not list(world.report().glob("p*"))  # files that this report does not have


def test_a_failed_rate_is_withheld_rather_than_compared(world: World) -> None:
    lost = world.train(("kto", "helpfulness", 0.1))
    world.judgments(lost, answers([1, 1, None, None], [None] * 4))
    path = write(world.outputs, ROW.replace("dpo", "kto"))
    (row,) = read(world.report(against=path, max_missing=0.1, figures=FigureForm.paper) / "published.csv")
    assert row["policy"] == "KTO(H) β=0.1"
    assert row["helpfulness_own"] == row["helpfulness_difference"] == row["safety_difference"] == ""


def test_policies_match_by_both_strengths_naive_merges_in_either_order_and_weights_by_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    last = ("dpo", "safety", 0.01)
    usual, unusual, safe = world.train(H), world.train(("dpo", "helpfulness", 0.2)), world.train(last)
    second = world.train(H, last)
    merged, naive = world.merge(0.5, usual, second), world.merge(0.25, safe, usual)
    others = [unusual, world.train(("dpo", "helpfulness", 0.2), last), world.merge(0.25, safe, unusual)]
    released, theirs = (world.elsewhere(name) for name in ("sacpo", "safety_dpo_helpful_dpo_0.1"))
    for policy in (usual, safe, second, merged, naive, *others, released, theirs):
        world.judgments(policy, answers([1, 1, 1, 0], [0, 1, 1, 0]))
    comparison = compare_with(world.scored(), read_published("sacpo_table3", 0.95))
    assert comparison.notes[-1].startswith("3 of our policies")  # both that have another first stage, and a merge of it
    assert {pair.row.policy.title: pair.own.policy.id for pair in comparison.pairings if pair.own} == {
        "DPO(H) β=0.1": usual.id,
        "DPO(S) β=0.01": safe.id,
        "DPO(H)→DPO(S) β=0.01": second.id,
        "DPO(H)→DPO(S) β=0.025": released.id,
        "DPO(S)→DPO(H) β=0.1": theirs.id,
        "P-SACPO DPO(H)→DPO(S) β=0.01 q=0.5": merged.id,
        "naive DPO(H)+DPO(S) β=0.01 q=0.75": naive.id,
    }
