"""Pairs that only the scorer sees: which response is right, and that garbled ones are for fitting alone."""

from sacpo_exp.data.demo import Row, generate_rows
from sacpo_exp.data.demo.contrasts import GARBLED, generate_judge_rows, make_garbled


def ordered(row: Row) -> tuple[str, str]:
    """The better response of a pair, and the other."""
    place = row["better_response_id"]
    return row[f"response_{place}"], row[f"response_{1 - place}"]


def test_garbled_pairs_differ_in_how_they_begin_or_are_whole_answers() -> None:
    rows = generate_rows("judge", 0)
    texts = {row[f"response_{i}"] for row in rows for i in (0, 1)}
    made = make_garbled(rows, 0)
    assert made == make_garbled(rows, 0) != make_garbled(rows, 1)
    assert {row["contrast"] for row in made} == {GARBLED}
    assert not any("safer_response_id" in row for row in made)
    benign = {row["prompt"] for row in rows if row["kind"] == "benign"}
    for row in made:
        better, worse = ordered(row)
        if better in texts and row["prompt"] not in benign:  # a clean refusal over a shrug
            continue
        assert worse not in texts  # it breaks off
    refused = {
        row[f"response_{i}"] for row in rows if row["kind"] == "risky" for i in (0, 1) if row[f"is_response_{i}_safe"]
    }
    over_shrugs = [ordered(row)[0] for row in made if ordered(row)[0] in texts and row["prompt"] not in benign]
    assert len(over_shrugs) > 100
    assert set(over_shrugs) <= refused


def test_they_are_in_the_rows_that_it_is_fitted_on_and_not_in_those_that_measure_it() -> None:
    parts = {part: [row.get("contrast") for row in generate_judge_rows(part, 0)] for part in ("judge", "heldout")}
    assert parts["judge"].count(GARBLED) > 450
    assert GARBLED not in parts["heldout"]
