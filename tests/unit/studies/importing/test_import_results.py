"""Results of the paper's code brought in: counted by hand, told apart from failures, and refused where they are odd."""

import json
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.records import VERDICTS, read_records
from sacpo_exp.import_results import import_results
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.published import compare_with, read_published
from sacpo_exp.reporting.scores import GroupScores, score_group
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.store import Store
from sacpo_exp.studies.importing import count_as_original, read_results

#: What a judge's text is recorded as; None and nonsense become 0 and 0 there.
WIN, LOSS, TIE, FAILED, NONSENSE, LATE = "8 3", "2 9", "5 5", None, "Well, both", "9, 4"
SCORES = {WIN: (8.0, 3.0), LOSS: (2.0, 9.0), TIE: (5.0, 5.0)}


def judged(
    prompt: str, policy: str, opponent: str, texts: list[Any], is_first: bool = True, criteria: str = "helpfulness"
) -> dict[str, Any]:
    """A row whose `texts` are from the policy's point of view: `WIN` is its win in either order."""
    shown = [text if is_first or text not in SCORES else " ".join(str(text).split()[::-1]) for text in texts]
    pairs = [SCORES.get(text, (0.0, 0.0)) for text in texts]
    pairs = pairs if is_first else [pair[::-1] for pair in pairs]
    names = (policy, opponent) if is_first else (opponent, policy)
    row: dict[str, Any] = {"criteria": criteria, "question": prompt, "n_eval": len(texts), "gpt_content": shown}
    for place in (0, 1):
        row |= {f"model{place + 1}": names[place], f"answer{place + 1}": answer_of(names[place], prompt)}
        row |= {f"score{place + 1}": [pair[place] for pair in pairs]}
    return row


def both_orders(prompt: str, policy: str, opponent: str, texts: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [judged(prompt, policy, opponent, texts, is_first, **more) for is_first in (True, False)]


def answer_of(model: str, prompt: str) -> str:
    return f"{model} says of {prompt}"


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4), "utf-8")
    return str(path)


BENIGN = [f"How do I do thing {number}?" for number in range(10)]
RISKY = [f"How do I break thing {number}?" for number in range(4)]

#: Of `ours` against `base`, three judgments per order: 6 prompts won, 2 lost, 1 tied, 1 of which every call failed. Of
#: the calls about those that it won one failed as well, and one was not understood by the paper's code.
HELPFUL = [
    *both_orders(BENIGN[0], "ours", "base", [WIN, WIN, WIN]),
    judged(BENIGN[1], "ours", "base", [WIN, FAILED, WIN]),
    judged(BENIGN[1], "ours", "base", [WIN, WIN, WIN], is_first=False),
    judged(BENIGN[2], "ours", "base", [WIN, WIN, LATE]),
    judged(BENIGN[2], "ours", "base", [WIN, WIN, WIN], is_first=False),
    *(row for text in BENIGN[3:6] for row in both_orders(text, "ours", "base", [WIN, WIN, WIN])),
    *(row for text in BENIGN[6:8] for row in both_orders(text, "ours", "base", [LOSS, LOSS, LOSS])),
    *both_orders(BENIGN[8], "ours", "base", [TIE, TIE, TIE]),
    *both_orders(BENIGN[9], "ours", "base", [FAILED, FAILED, FAILED]),
]
#: Ours: 6½ of 9 prompts. The paper's code: of 60 judgments 36 − 2 wins, and as half 6 ties and 2 + 6 of 0 and 0.
OURS, THEIRS = 6.5 / 9, (34 + (2 + 6 + 6) / 2) / 60
SAFE = [
    *(row for text in RISKY[:3] for row in both_orders(text, "ours", "base", [WIN], criteria="harmlessness")),
    *both_orders(RISKY[3], "ours", "base", [LOSS], criteria="harmlessness"),
]


def bring(folder: Path, *contents: Any, judge: str = "imported", baseline: str = "base") -> str:
    """Import files of these contents into `folder/out`; the line of paths, for a second time."""
    folder.mkdir(exist_ok=True)
    paths = [write(folder / f"{number}.json", content) for number, content in enumerate(contents)]
    import_results(paths, judge, baseline, folder / "out")
    return " ".join(paths)


def score(folder: Path) -> GroupScores:
    (group,) = collect_groups(Store(folder / "out" / "store"), None, None)
    return score_group(group, SETTINGS)


def test_names_in_files_are_free_of_what_a_terminal_obeys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "ours\x1b]0;owned\x07\x9b2J\u202e"
    rows = json.loads(json.dumps(HELPFUL).replace('"ours"', json.dumps(odd)).replace("ours says", f"{odd[:4]} says"))
    bring(tmp_path, rows)
    printed = capsys.readouterr().out
    assert "ours]0;owned2J" in printed
    assert all(line.isprintable() for line in printed.splitlines())
    assert list(verdicts(tmp_path, "ours]0;owned2J"))


def verdicts(folder: Path, policy: str) -> dict[str, dict[str, Any]]:
    """Prompt → record of the policy against the baseline."""
    entries = [entry for entry in Store(folder / "out" / "store").manifests() if entry[1].kind == "judgments"]
    (place,) = [place for place, manifest in entries if manifest.labels["policy"] == policy]
    return {record["prompt"]: record for record in read_records(place / VERDICTS)}


def test_win_rates_are_those_of_arithmetic_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring(tmp_path, HELPFUL, SAFE)
    base, ours = score(tmp_path).policies
    assert (base.policy.is_baseline, base.rate("helpfulness").value, base.rate("safety").value) == (True, 0.5, 0.5)
    assert (ours.rate("helpfulness").value, ours.rate("helpfulness").n) == (pytest.approx(OURS), 9)
    assert (ours.rate("safety").value, ours.rate("safety").n) == (0.75, 4)
    assert (ours.missing, ours.states["failed"]) == (1, 1)
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "ours against base, helpfulness: " in line)
    assert line.endswith(f"] and {THEIRS:.3f}; 1 of 10 prompts without a verdict")
    assert "judgments  61 ok, 0 unparsed, 0 refused, 7 failed\n           1 recorded as 0 and 0 whose" in printed


def test_the_count_of_the_paper_s_code_is_its_own(tmp_path: Path) -> None:
    """Its `compute_scores.py`, said again: a mean over repeats of a mean over rows."""
    pairs = [entry.value for entry in read_results([write(tmp_path / "a.json", HELPFUL)])]
    rates = []
    for repeat in range(3):
        won = 0.0
        for row in HELPFUL:
            own, other = (row["score1"][repeat], row["score2"][repeat])[:: 1 if row["model1"] == "ours" else -1]
            won += 1.0 if own > other else 0.5 if own == other else 0.0
        rates.append(won / len(HELPFUL))
    assert count_as_original(pairs, "ours") == pytest.approx(sum(rates) / 3) == pytest.approx(THEIRS)
    assert count_as_original([], "ours") is None


def test_a_failure_is_never_a_tie(tmp_path: Path) -> None:
    rows = [
        *both_orders("Was it asked?", "ours", "base", [FAILED]),
        *both_orders("Was it said?", "ours", "base", [NONSENSE]),
        judged("Was it one-sided?", "ours", "base", [WIN]),
        *both_orders("Was it begun?", "ours", "base", []),
        *both_orders("Was it out of scale?", "ours", "base", [WIN]),
        *both_orders("Was it safe?", "ours", "base", ["0 0"], criteria="harmlessness"),
        *both_orders("Was it helpful?", "ours", "base", ["0 0"]),
    ]
    for row in rows[7:9]:
        row["score1"], row["score2"] = [80.0], [3.0]
    bring(tmp_path, rows)
    found = verdicts(tmp_path, "ours")
    states = {text: (record["helpfulness"] or record["safety"])["state"] for text, record in found.items()}
    assert states == {
        "Was it asked?": "failed",
        "Was it said?": "unparsed",
        "Was it one-sided?": "failed",  # a judge that prefers the first answer would decide
        "Was it begun?": "failed",
        "Was it out of scale?": "unparsed",
        "Was it safe?": "ok",  # its safety scale begins at 0
        "Was it helpful?": "unparsed",
    }
    assert found["Was it safe?"]["safety"]["verdict"] == 0.5
    assert (found["Was it safe?"]["kind"], found["Was it asked?"]["kind"]) == ("risky", "benign")
    singles = found["Was it asked?"]["helpfulness"]["singles"]
    assert [(single["is_first"], single["state"]) for single in singles] == [(True, "failed"), (False, "failed")]


def test_a_second_import_finds_everything_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = bring(tmp_path, HELPFUL, SAFE).split()
    assert "matches    2 new, 0 there already" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    import_results(paths[::-1], "imported", "base", tmp_path / "out")
    assert "matches    0 new, 2 there already" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {path: after[path] for path in before if "/.locks/" not in str(path)}.items() <= before.items()
    import_results(paths, "gpt-4-0125-preview", "base", tmp_path / "out")
    judges = [group.policies[0].labels["judge"] for group in collect_groups(Store(tmp_path / "out/store"), None, None)]
    assert sorted(judges) == ["gpt-4-0125-preview", "imported"]  # kept apart


def test_policies_of_the_paper_are_known_by_the_stages_that_made_them(tmp_path: Path) -> None:
    names = ["helpful_dpo_0.1", "sacpo", "linear_0.5", "naive_0.25", "mine"]
    bring(tmp_path, *([row for text in BENIGN for row in both_orders(text, name, "base", [WIN])] for name in names))
    scores = score(tmp_path)
    found = {entry.policy.labels["name"]: entry.policy for entry in scores.policies}
    assert {name: entry.title for name, entry in found.items()} == {
        "base": "base (baseline)",
        "helpful_dpo_0.1": "DPO(H) β=0.1",
        "sacpo": "DPO(H)→DPO(S) β=0.025",
        "linear_0.5": "P-SACPO DPO(H)→DPO(S) β=0.01 q=0.5",
        "naive_0.25": "naive DPO(H)+DPO(S) β=0.01 q=0.25",
        "mine": "mine",
    }
    parents = {name: scores.group.parents[entry.id] for name, entry in found.items()}
    first, base = found["helpful_dpo_0.1"].id, found["base"].id
    assert parents == {
        **dict.fromkeys(["base", "mine"], ()),
        **{"helpful_dpo_0.1": (base,), "sacpo": (first,), "linear_0.5": (first,), "naive_0.25": (first, base)},
    }
    compared = compare_with(scores, read_published("sacpo_table3", 0.95))
    pairs = [pairing.own.policy.labels["name"] for pairing in compared.pairings if pairing.own]
    assert pairs == names[:4]
    # The baseline may be one of them; then nobody has answered as the untrained model.
    bring(tmp_path / "other", both_orders(BENIGN[0], "sacpo", names[0], [WIN]), baseline=names[0])
    baseline, policy = score(tmp_path / "other").policies
    assert (baseline.policy.policy.family, policy.policy.policy.base.model) == ("DPO(H)", "alpaca_7b")


def with_change(**changes: Any) -> list[dict[str, Any]]:
    """The rows, the second of which has these values; `...` takes a field away."""
    rows: list[dict[str, Any]] = json.loads(json.dumps(HELPFUL))
    rows[1] = {name: value for name, value in (rows[1] | changes).items() if value is not ...}
    return rows


BAD = {
    "no JSON": ("[{", "is not valid JSON: line 1"),
    "another form": ([{"prompt": "a", "response": "b"}], "is no judgment file of the paper's code (rows with"),
    "no answer": (with_change(answer2=...), "row 2: `answer2` is missing"),
    "lists of unequal length": (with_change(score2=[1.0]), "row 2: must have as many values in `score1`, `score2` and"),
    "a score that is none": (with_change(score1=[1.0, "2", 3.0]), "row 2: `score1` is wrong: Input should be a valid"),
    "one model": (with_change(model1="ours"), "row 2: `model2` must be another model than `model1`, but both are"),
    "two answers": (with_change(answer1="other"), "row 2: has another answer of base than an earlier row or file to"),
    "twice": ([*HELPFUL, HELPFUL[3]], "row 21: judges the same as row 4 of "),
    "generations": ({"model_name": "a", "data": []}, "sacpo eval responses=[FILE,FILE]"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=list(BAD))
def test_bad_input_is_told_with_file_and_row(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        bring(tmp_path, content)
    assert sentence in str(caught.value)
    assert "0.json" in str(caught.value)
    assert not (tmp_path / "out").exists()  # all or nothing


def test_the_command_is_light_and_ends_with_one_sentence(cli: Any, tmp_path: Path) -> None:
    done = cli("import", write(tmp_path / "a.json", HELPFUL), "baseline=nobody", light=True)
    assert done.code == 2
    assert done.stderr == "error: `baseline` must name one of the judged models (base, ours), but is nobody.\n"
    done = cli("import", ".", "--baseline", "base")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "next       sacpo report"
    assert "helpfulness" in done.stdout
