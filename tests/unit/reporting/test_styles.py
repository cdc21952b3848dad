"""How families are drawn: derived from their policies, told apart, and the same in every report."""

import itertools
from collections.abc import Iterable

from made_policies import policy_of

from sacpo_exp.reporting.families import ELSEWHERE, MARKERS, Style, find_styles

#: What the paper draws.
PAPER = ["DPO(H)", "DPO(S)", "KTO(H)", "DPO(H)→DPO(S)", "DPO(H)→KTO(S)", "KTO(H)→DPO(S)", "DPO(S)→DPO(H)"]
PAPER += ["P-SACPO DPO(H)→DPO(S)", "naive DPO(H)+DPO(S)", "beaver-7b-v1.0"]
OTHERS = ["lora16 DPO(H)", "DPO(H)→DPO(T)→DPO(S)", "IPO(H)", "gpt", "Ünïcode \ud83d"]


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    return find_styles(map(policy_of, names))


def test_a_paper_family_looks_the_same_whatever_it_is_drawn_with() -> None:
    together = styles_of(PAPER)
    assert all(styles_of([name])[name] == together[name] for name in PAPER)
    assert styles_of(PAPER[::-1]) == together
    assert len({style.marker for style in together.values()}) == len(PAPER)


def test_any_two_families_differ() -> None:
    styles = styles_of([*PAPER, *OTHERS[:4]])
    assert all(one != other for one, other in itertools.combinations(styles.values(), 2))
    many = styles_of(f"made elsewhere {number}" for number in range(2 * len(MARKERS)))
    assert {style.marker for style in many.values()} == set(MARKERS)  # used again rather than an error


def test_colours_and_lines_show_orders_and_merges() -> None:
    styles = styles_of([*PAPER, *OTHERS])
    forward, reverse, merge, naive = (styles[name] for name in (PAPER[3], PAPER[6], PAPER[7], PAPER[8]))
    assert [style.line for style in (forward, reverse, merge, naive)] == ["-", "--", ":", "-."]
    assert len({style.colour for style in (forward, reverse, merge, naive)}) == 4
    assert styles["DPO(H)→KTO(S)"].colour == forward.colour
    assert styles["gpt"].colour == ELSEWHERE
