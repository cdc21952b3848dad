"""The split, and the views of all three forms against arithmetic by hand."""

import random
from dataclasses import replace
from typing import Any

import pytest
from rows import HELPFULNESS, HONESTY, SAFETY, make_completion, make_pair, make_row, preferences, turns

from sacpo_exp.config.data import DataSchema
from sacpo_exp.data.preferences import Preferences, asked_text, make_view, split_by_prompt, undesirable_weight
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion, Pairing
from sacpo_exp.method.losses import View


def pku(rows: list[Any]) -> Preferences:
    return preferences(DataSchema.pku, rows)


#: (better id, safe flags) -> labels of both responses, as in the code of the paper: by the pair for
#: helpfulness, by `is_response_{0,1}_safe` for safety, where both or none may be desirable.
LABELS = {
    "better is unsafe": (0, (False, True), [True, False], [False, True]),
    "better is safe": (1, (False, True), [False, True], [False, True]),
    "both are safe": (0, (True, True), [True, False], [True, True]),
    "none is safe": (1, (False, False), [False, True], [False, False]),
}


def test_labels_of_the_paper() -> None:
    for better, safe, helpful, harmless in LABELS.values():
        data = pku([make_row(better=better, safe=safe)])
        assert [entry["label"] for entry in make_view(data, View.labels, HELPFULNESS)] == helpful
        assert [entry["label"] for entry in make_view(data, View.labels, SAFETY)] == harmless


def test_kto_with_one_label_is_refused() -> None:
    for counts, missing in (((3, 0), "undesirable"), ((0, 2), "desirable"), ((0, 0), "desirable")):
        with pytest.raises(DataError, match=f"none of the {sum(counts)} is {missing}"):
            undesirable_weight(*counts)


def test_the_split_depends_on_the_seed_and_keeps_prompts_together_that_differ_in_case_or_white_space_only() -> None:
    rows = [make_row(text.format(n)) for n in range(40) for text in ("Ask {}?", "ask  {}?\n", "ASK {}?")]

    def held_out(rows: list[Any], seed: int = 0) -> set[str]:
        return {row["prompt"] for row in split_by_prompt(rows, 0.25, seed)[1]}

    train, other = split_by_prompt(rows, 0.25, seed=0)
    assert (len(train), len(other)) == (90, 30)
    numbers = [{int(row["prompt"].strip(" \n?").split()[1]) for row in part} for part in (train, other)]
    assert not numbers[0] & numbers[1]
    assert held_out(rows) == held_out(random.Random(0).sample(rows, len(rows)))
    assert len({frozenset(held_out(rows, seed)) for seed in range(5)}) > 1


PAIRS = Preferences(DataSchema.pairs, DataSchema.hh, SAFETY.name, (make_pair(),))
UNPAIRED = preferences(DataSchema.unpaired, [make_completion(), make_completion(text="bad", label=False)], SAFETY.name)


def refusal(data: Preferences, view: View, criterion: Criterion | None, only_mixed: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        make_view(data, view, criterion, only_mixed)
    return str(caught.value)


def test_a_criterion_that_the_rows_lack_is_refused() -> None:
    for view in (View.pairs, View.labels):
        sentence = refusal(PAIRS, view, HELPFULNESS)
        assert "pairs with labels for safety only" in sentence
        assert "dataset@stages.helpfulness.dataset=NAME" in sentence


def test_completions_of_a_prompt_with_both_labels_are_paired_and_others_left_out() -> None:
    desirable = [("p", "a"), ("q", "x"), ("p", "e")]
    texts = [*desirable[:2], ("p", "b"), ("p", "c"), ("p", "d"), desirable[2]]
    rows = [make_completion(*text, text in desirable) for text in texts]
    pairs = make_view(UNPAIRED.with_rows(rows), View.pairs, SAFETY)
    texts = [[pair[name][0]["content"] for name in ("prompt", "chosen", "rejected")] for pair in pairs]
    assert texts == [["p", "a", "b"], ["p", "e", "c"], ["p", "a", "d"]]
    assert "no prompt has a desirable and" in refusal(UNPAIRED.with_rows(rows[:2]), View.pairs, SAFETY)


def test_the_acceptable_response_is_chosen_before_the_preferred_one() -> None:
    mixed = Criterion("mixed", "HS", "better_response_id", "is_response_{i}_safe", pairing=Pairing.acceptable_first)
    rows = [make_row(better=0, safe=safe) for safe in ((False, True), (True, False), (True, True), (False, False))]
    view = make_view(pku(rows), View.pairs, mixed, has_flags=True)
    chosen = [pair["chosen"][0]["content"] for pair in view]
    assert chosen == [rows[i][f"response_{j}"] for i, j in enumerate((1, 0, 0, 0))]
    flags = [(pair["chosen_acceptable"], pair["rejected_acceptable"]) for pair in view]
    assert flags == [(True, False), (True, False), (True, True), (False, False)]
    kept = make_view(pku(rows), View.pairs, replace(mixed, pairing=Pairing.acceptable_only), has_flags=True)
    assert kept == view[:3]
    plain = make_view(pku(rows), View.pairs, replace(mixed, pairing=Pairing.preferred))
    assert [pair["chosen"] for pair in plain] == [turns(row["response_0"], "assistant") for row in rows]


def test_safety_pairs_may_be_restricted_to_rows_with_one_safe_response() -> None:
    rows = [make_row(f"{safe}", safe=safe) for safe in ((False, True), (True, True), (False, False), (True, False))]
    data, mixed = pku(rows), pku([rows[0], rows[3]])
    assert make_view(data, View.pairs, SAFETY, only_mixed_pairs=True) == make_view(mixed, View.pairs, SAFETY)
    assert make_view(data, View.pairs, HELPFULNESS, True) == make_view(data, View.pairs, HELPFULNESS)
    assert make_view(data, View.labels, SAFETY, True) == make_view(data, View.labels, SAFETY)
    assert "leaves no pairs for safety" in refusal(pku(rows[1:3]), View.pairs, SAFETY, True)


def test_what_is_asked_leaves_a_system_message_out() -> None:
    assert asked_text([*turns("Be brief.", "system"), *turns("Hello?")]) == "Hello?"
    assert asked_text("Hello?") == "Hello?"


def test_rows_without_the_criterion_s_fields_are_refused() -> None:
    flagged = replace(HONESTY, acceptable="is_{i}_true")
    for criterion, view, reason in (
        (HONESTY, View.pairs, "no field with labels for it"),
        (replace(HONESTY, preferred="truer_id"), View.labels, "no field `truer_id`"),
        (flagged, View.pairs, "no field with labels for it"),
        (flagged, View.labels, "no field `is_0_true`, `is_1_true`"),
    ):
        sentence = refusal(pku([make_row()]), view, criterion)
        assert sentence.startswith(f"these rows are pku with {reason}, but a stage is about honesty.")
