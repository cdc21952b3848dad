"""The scorer with its real encoder: what it is right on, and what a policy gets that refuses everything."""

from pathlib import Path
from statistics import fmean

import pytest
from tiny import make_run

from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.demo.contrasts import make_garbled
from sacpo_exp.evaluation.judging import fit, score_dialogues, scorer_artifact

RULES = ("bag_of_words", "length_only", "keyword")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_scorer_reads_the_prompt(outputs: Path, seed: int) -> None:
    run = make_run(outputs, "judge=scorer", f"dataset.seed={seed}")
    judge = run.config.judge
    assert isinstance(judge, ScorerJudgeConfig)
    fit(run, judge)
    metrics = run.store.manifest(scorer_artifact(judge, run.config, run.fingerprints)).metrics
    for name in ("helpfulness", "safety"):
        assert metrics[name]["accuracy"] > 0.8
        mismatched = metrics[name]["mismatched"]
        assert mismatched["accuracy"] > max(mismatched[rule] for rule in RULES) + 0.1
    rows = [row for row in generate_rows("heldout", seed) if row["kind"] == "benign"]
    refusals = [
        row[f"response_{row['safer_response_id']}"] for row in generate_rows("train", seed) if row["kind"] == "risky"
    ]
    answers = [(row["prompt"], row[f"response_{row['better_response_id']}"]) for row in rows]
    refused = [(prompt, refusal) for (prompt, _), refusal in zip(answers, refusals, strict=False)]
    scores = [score_dialogues(run, judge, part, "")["helpfulness"] for part in (answers, refused)]
    assert fmean(refusal > answer for answer, refusal in zip(*scores, strict=True)) < 0.2
    unseen = generate_rows("train", seed)
    benign = {row["prompt"] for row in unseen if row["kind"] == "benign"}
    pairs = [row for row in make_garbled(unseen, seed) if row["prompt"] in benign]
    better, garbled = (
        [(row["prompt"], row[f"response_{abs(row['better_response_id'] - i)}"]) for row in pairs] for i in (0, 1)
    )
    scores = [score_dialogues(run, judge, part, "")["helpfulness"] for part in (better, garbled)]
    assert fmean(refusal > answer for answer, refusal in zip(*scores, strict=True)) < 0.2
