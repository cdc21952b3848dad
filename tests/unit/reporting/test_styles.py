"""How families are drawn: derived from their policies, and told apart."""

import itertools

from made_policies import policy_of

from sacpo_exp.reporting.figures import ELSEWHERE, MARKERS, find_styles

#: What the paper draws, and others.
PAPER = ["DPO(H)", "DPO(S)", "KTO(H)", "DPO(H)→DPO(S)", "DPO(H)→KTO(S)", "KTO(H)→DPO(S)", "DPO(S)→DPO(H)"]
PAPER += ["P-SACPO DPO(H)→DPO(S)", "naive DPO(H)+DPO(S)", "beaver-7b-v1.0"]
OTHERS = ["lora16 DPO(H)", "DPO(H)→DPO(T)→DPO(S)", "IPO(H)", "gpt", "Ünïcode \ud83d"]


def test_families_differ_and_do_not_depend_on_the_order_of_the_policies() -> None:
    styles = find_styles(map(policy_of, [*PAPER, *OTHERS]))
    assert find_styles(map(policy_of, [*PAPER, *OTHERS][::-1])) == styles
    assert all(one != other for one, other in itertools.combinations(styles.values(), 2))
    many = find_styles(policy_of(f"made elsewhere {number}") for number in range(2 * len(MARKERS)))
    assert {marker for _, marker, _ in many.values()} == set(MARKERS)  # used again rather than an error


def test_colours_and_lines_show_orders_and_merges() -> None:
    styles = find_styles(map(policy_of, [*PAPER, *OTHERS]))
    forward, reverse, merge, naive = (styles[name] for name in (PAPER[3], PAPER[6], PAPER[7], PAPER[8]))
    assert [line for _, _, line in (forward, reverse, merge, naive)] == ["-", "--", ":", "-."]
    assert len({style[0] for style in (forward, reverse, merge, naive)}) == 4
    assert styles["DPO(H)→KTO(S)"][0] == forward[0]
    assert styles["gpt"][0] == ELSEWHERE
