"""How families are drawn: by their names alone, and told apart also with a colour vision deficiency."""

import itertools
import re
from collections.abc import Iterable
from importlib import resources

import numpy as np
import pytest
from made_policies import policy_of
from numpy.typing import NDArray

from sacpo_exp.reporting.styles import ELSEWHERE, MARKERS, PAPER, TRAINED, Style, find_styles

SINGLES = [f"{loss}({letter})" for loss in ("DPO", "KTO") for letter in "HS"]
DOUBLES = [f"{a}({x})→{b}({y})" for a, b in itertools.product(("DPO", "KTO"), repeat=2) for x, y in ("HS", "SH")]
NAIVE = [f"naive {loss}({x})+{loss}({y})" for loss in ("DPO", "KTO") for x, y in ("HS", "SH")]
FAMILIES = [*SINGLES, *DOUBLES, *(f"P-SACPO {name}" for name in DOUBLES), *NAIVE]
OTHERS = ["lora16 DPO(H)", "qlora64 DPO(H)→DPO(S)", "base", "beaver-7b-v1.0", "gpt", "Ünïcode \ud83d"]
#: What the paper draws together: losses; orders; merges.
PANELS = [
    ["DPO(H)", "KTO(H)", "DPO(S)", "DPO(H)→DPO(S)", "DPO(H)→KTO(S)", "KTO(H)→DPO(S)"],
    ["DPO(H)", "DPO(S)", "DPO(H)→DPO(S)", "DPO(S)→DPO(H)"],
    ["DPO(H)", "DPO(S)", "DPO(H)→DPO(S)", "P-SACPO DPO(H)→DPO(S)", "naive DPO(H)+DPO(S)"],
]
#: Machado, Oliveira & Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, IEEE TVCG 15,
#: 2009: matrices of severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
#: CIE 1976 colour difference; about 2.3 is just noticeable (Mahy, Van Eycken & Oosterlinck 1994).
LEAST = 10.0


def to_lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of linear sRGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ np.clip(linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(one: Style, other: Style) -> float:
    """The smallest colour difference that anybody sees between two styles."""
    linear = []
    for style in (one, other):
        channels = np.array(style.colour)
        linear.append(np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4))
    return min(float(np.linalg.norm(to_lab(m @ linear[0]) - to_lab(m @ linear[1]))) for m in VISIONS.values())


def test_the_simulation_has_the_confusions_that_it_should() -> None:
    grey, red, green = (Style(colour, "o", "-") for colour in ((0.5, 0.5, 0.5), (0.62, 0.35, 0.2), (0.38, 0.43, 0.2)))
    assert least_distance(grey, grey) == 0
    # Brown and olive, far apart for most people (40), are nearly the same without the middle cones.
    assert least_distance(red, green) < 12


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    return find_styles(map(policy_of, names))


def test_a_family_looks_the_same_whatever_it_is_drawn_with() -> None:
    together = styles_of([*OTHERS, *FAMILIES])
    assert all(styles_of([name])[name] == together[name] for name in PAPER)
    assert styles_of([*FAMILIES[::-1], *OTHERS[::-1]]) == together
    alone = {name: styles_of([name])[name] for name in OTHERS}
    assert alone == {name: together[name] for name in OTHERS}  # none of these meet


def test_every_family_that_the_paper_draws_has_a_place_of_its_own() -> None:
    places = {(style.colour, style.marker) for style in styles_of(FAMILIES).values()}
    assert len(places) == len(FAMILIES)
    assert set(PAPER) == {name for panel in PANELS for name in panel}
    assert len(set(PAPER.values())) == len(PAPER)
    assert not {*TRAINED, *ELSEWHERE} & set(PAPER.values())
    assert not set(TRAINED) & set(ELSEWHERE)


def test_any_two_families_differ_in_marker_or_so_in_colour_that_everybody_sees_it() -> None:
    styles = styles_of([*FAMILIES, *OTHERS])
    for (one, a), (other, b) in itertools.combinations(styles.items(), 2):
        assert a.marker != b.marker or least_distance(a, b) >= LEAST, f"{one} and {other}"


@pytest.mark.parametrize("names", PANELS)
def test_what_the_paper_draws_in_one_panel_differs_in_both(names: list[str]) -> None:
    styles = styles_of(names)
    assert len({style.marker for style in styles.values()}) == len(names)
    assert min(least_distance(a, b) for a, b in itertools.combinations(styles.values(), 2)) >= LEAST


def test_lines_tell_orders_and_merges_apart() -> None:
    styles = styles_of(PANELS[1] + PANELS[2])
    assert [styles[name].line for name in PANELS[2][2:]] == ["-", ":", "-."]
    assert styles["DPO(S)→DPO(H)"].line == "--"


def test_names_that_meet_in_one_place_are_drawn_apart() -> None:
    names = [f"made elsewhere {number}" for number in range(len(ELSEWHERE))]
    styles = styles_of(names)
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(names)
    assert len(styles_of([*names, "one more"])) == len(names) + 1


def test_criteria_and_losses_that_the_paper_does_not_have_are_drawn_too() -> None:
    names = ["DPO(H)→DPO(T)→DPO(S)", "P-SACPO DPO(H)→DPO(T)→DPO(S)", "IPO(H)", "DPO(T)"]
    assert len({(style.colour, style.marker) for style in styles_of(names).values()}) == len(names)


def test_the_page_can_draw_every_marker_and_line() -> None:
    script = (resources.files("sacpo_exp.reporting") / "template" / "charts.js").read_text("utf-8")
    shapes = re.search(r"const MARKERS = \{(.*?)\};", script, re.DOTALL)
    dashes = re.search(r"const DASHES = \{(.*?)\};", script)
    assert shapes
    assert dashes
    assert set(MARKERS) <= {
        match[0] or match[1] for match in re.findall(r'^  (?:"(.)"|(\w)): ', shapes[1], re.MULTILINE)
    }
    assert {"-", "--", ":", "-."} == set(re.findall(r'"([-:.]+)": "', dashes[1]))
