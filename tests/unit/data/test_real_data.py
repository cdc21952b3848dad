"""Preference data written by others, beside the repository: counts against independent pandas, and every row used."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from real_data import find_real
from rows import HELPFULNESS, SAFETY

from sacpo_exp.config.data import DataSchema, DatasetConfig, OnBadRow
from sacpo_exp.data.files import RawRows, read_raw
from sacpo_exp.data.forms import normalise
from sacpo_exp.data.preferences import Preferences, make_view
from sacpo_exp.data.preparation import describe
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import View

PKU = "pku_saferlhf_sample_32.json"
HH = "hh_rlhf_harmless_base_test_first1156.jsonl.gz"
SHAREGPT = "llama_factory_dpo_en_demo.json"


def find(name: str) -> Path:
    return find_real(f"preferences/{name}")


def load(name: str) -> RawRows:
    return read_raw(find(name), name)


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.read_json(find(PKU))


@pytest.fixture
def sample() -> Preferences:
    return normalise([load(PKU)], DatasetConfig(name="local"))


def test_the_sample_s_counts_are_those_of_pandas(frame: pd.DataFrame, sample: Preferences) -> None:
    counts = describe(sample, SAFETY)
    flags = frame[["is_response_0_safe", "is_response_1_safe"]]
    assert (counts["rows"], counts["prompts"]) == (len(frame), frame.prompt.nunique()) == (32, 31)
    assert counts["better_is_not_safer"] == (frame.better_response_id != frame.safer_response_id).sum() == 19
    assert counts["both_unsafe"] == (~flags.any(axis=1)).sum() == 16
    assert counts["both_safe"] == flags.all(axis=1).sum()
    assert counts["mixed"] == (flags.sum(axis=1) == 1).sum()
    helpful = {"desirable": 32, "undesirable": 32, "undesirable_weight": 1.0}
    assert describe(sample, HELPFULNESS)["labels"] == {"helpfulness": helpful}
    safe = int(flags.to_numpy().sum())
    weight = safe / (64 - safe)
    assert counts["labels"]["safety"] == {"desirable": safe, "undesirable": 64 - safe, "undesirable_weight": weight}
    assert counts["duplicates"] == frame.duplicated().sum()
    assert counts["ties"] == (frame.response_0 == frame.response_1).sum()


@pytest.mark.parametrize("criterion", [HELPFULNESS, SAFETY], ids=lambda criterion: criterion.name)
def test_pairs_and_labels_are_those_of_pandas(frame: pd.DataFrame, sample: Preferences, criterion: Criterion) -> None:
    preferred = frame.better_response_id if criterion == HELPFULNESS else frame.safer_response_id
    chosen = frame.response_0.where(preferred == 0, frame.response_1)
    rejected = frame.response_1.where(preferred == 0, frame.response_0)
    pairs = pd.DataFrame(make_view(sample, View.pairs, criterion)).map(lambda turns: turns[0]["content"])
    assert pairs.equals(pd.DataFrame({"prompt": frame.prompt, "chosen": chosen, "rejected": rejected}))
    view = pd.DataFrame(make_view(sample, View.labels, criterion))
    labels = view.label.to_numpy().reshape(32, 2)
    if criterion == SAFETY:
        assert (labels == frame[["is_response_0_safe", "is_response_1_safe"]].to_numpy()).all()
    else:
        assert (labels[:, 1] == (frame.better_response_id == 1)).all()
        assert (labels[:, 0] != labels[:, 1]).all()


def test_hh_rlhf_becomes_pairs() -> None:
    raw = load(HH)
    skipping = DatasetConfig(name="local", criterion="safety", on_bad_row=OnBadRow.skip)
    data = normalise([raw], skipping)
    assert (len(raw.rows), len(data.rows), data.skipped) == (1156, 1152, 4)
    assert (data.detected, data.form) == (DataSchema.hh, DataSchema.pairs)
    for (_, text), row in zip(
        [pair for pair in raw.rows if pair[0] not in (87, 517, 926, 1104)], data.rows, strict=True
    ):
        for name in ("chosen", "rejected"):
            context, _, last = text[name].rpartition("\n\nAssistant:")
            assert row[name] == [{"role": "assistant", "content": last.strip()}]
            users = [turn["content"] for turn in row["prompt"] if turn["role"] == "user"]
            assert [part.split("\n\nAssistant:")[0].strip() for part in context.split("\n\nHuman:")[1:]] == users
        roles = [turn["role"] for turn in row["prompt"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_sharegpt_becomes_pairs() -> None:
    raw = load(SHAREGPT)
    data = normalise([raw], DatasetConfig(name="local", criterion="helpfulness"))
    assert (len(data.rows), data.skipped, data.detected, data.form) == (300, 0, DataSchema.sharegpt, DataSchema.pairs)
    first = Counter(row["prompt"][0]["role"] for row in data.rows)
    assert first == {"user": 220, "system": 80}
    view = make_view(data, View.pairs, HELPFULNESS)
    said = [[pair[name][0]["content"] for name in ("chosen", "rejected")] for pair in view]
    assert said == [[row[name]["value"] for name in ("chosen", "rejected")] for _, row in raw.rows]
