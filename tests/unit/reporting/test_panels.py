"""The figure in panels: which families stand where, what is drawn of them, and files that a publisher takes."""

import itertools
from pathlib import Path

import pytest
from made_policies import policy_of
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from world import World, answers

from sacpo_exp.config.schema import FigureForm, RatingMethod
from sacpo_exp.reporting.against import add_comparison
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.figures import draw_figure
from sacpo_exp.reporting.panels import choose_panels, draw_panels, lay_out_panels
from sacpo_exp.reporting.published.reading import read_published
from sacpo_exp.reporting.scores import GroupScores, Settings, score_group
from sacpo_exp.reporting.styles import find_styles
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import ArtifactSpec

H, S, HS, SH = "DPO(H)", "DPO(S)", "DPO(H)→DPO(S)", "DPO(S)→DPO(H)"
P, NAIVE = f"P-SACPO {HS}", "naive DPO(H)+DPO(S)"
#: Family, β, q, and the verdicts of four benign and four risky prompts.
POLICIES = [
    (H, 0.1, None, [1, 1, 1, 0], [0, 0, 0.5, 0]),
    (S, 0.01, None, [0, 1, 0, 0.5], [1, 1, 1, 0]),
    (HS, 0.05, None, [1, 1, 0.5, 0], [1, 1, 0.5, 0]),
    (HS, 0.01, None, [1, 0, 0.5, 0], [1, 1, 1, 0.5]),
    (SH, 0.1, None, [1, 1, 1, 0.5], [1, 0, 0.5, 0]),
    (P, 0.01, 0.25, [1, 1, 0, 0.5], [1, 0.5, 0, 0]),
    (P, 0.01, 0.75, [1, 0.5, 0.5, 0], [1, 1, 0.5, 0.5]),
    (NAIVE, 0.01, 0.5, [0.5, 1, 0.5, 0], [1, 0.5, 0, 0.5]),
]


def make_world(outputs: Path, families: list[str]) -> World:
    world = World(outputs)
    world.judgments(world.baseline, answers([0.5] * 4, [0.5] * 4))
    for family, beta, ratio, helpfulness, safety in POLICIES:
        if family in families:
            world.judgments(make_policy(world, family, beta, ratio), answers(helpfulness, safety))
    return world


def make_policy(world: World, family: str, beta: float, ratio: float | None) -> ArtifactSpec:
    """The policy of a row; where one stage has no β of its own it is the paper's."""
    helpful, safe = ("dpo", "helpfulness", 0.1), ("dpo", "safety", 0.01)
    if ratio is not None:
        last = world.train(safe) if family == NAIVE else world.train(helpful, safe)
        return world.merge(ratio, world.train(helpful), last)
    before = {HS: [helpful], SH: [safe]}.get(family, [])
    return world.train(*before, ("dpo", "safety" if family in (S, HS) else "helpfulness", beta))


def score(world: World, against: str | None = None) -> GroupScores:
    (group,) = collect_groups(world.store, None, None)
    scores = score_group(group, Settings(Resampling(100, 0.95, 0), 1.0, RatingMethod.bradley_terry))
    return add_comparison(scores, read_published(against, 0.95) if against else None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "outputs", [policy[0] for policy in POLICIES])


def points_of(axes: Axes, is_hollow: bool = False) -> dict[tuple[str, tuple[float, float, float]], int]:
    """(marker, colour) → how many points are drawn so; of filled or of hollow ones."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "x")]
    return {
        (str(line.get_marker()), to_rgb(line.get_color())): len(line.get_xdata())  # type: ignore[arg-type]
        for line in lines
        if (line.get_markerfacecolor() == "white") == is_hollow
    }


def drawn(*counts: tuple[str, int]) -> dict[tuple[str, tuple[float, float, float]], int]:
    styles = find_styles(policy_of(name) for name, _ in counts)
    return {(styles[name].marker, to_rgb(styles[name].colour)): count for name, count in counts}


def check_labels(figure: Figure) -> None:
    """No label covers another, nor leaves its panel."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        extents = [Text.get_window_extent(text) for text in axes.texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(extents, 2))
        inner = axes.get_window_extent()
        assert all(inner.x0 <= box.x0 and box.x1 <= inner.x1 and inner.y0 <= box.y0 for box in extents)


def test_three_panels_hold_what_belongs_together(world: World) -> None:
    figure = lay_out_panels(score(world))
    assert [axes.get_title() for axes in figure.axes] == ["(a) helpfulness first", "(b) reversed order", "(c) merges"]
    losses, orders, merges = figure.axes
    assert points_of(losses) == drawn((H, 1), (S, 1), (HS, 2))
    assert points_of(orders) == drawn((H, 1), (S, 1), (HS, 2), (SH, 1))
    assert points_of(merges) == drawn((H, 1), (S, 1), (HS, 2), (P, 2), (NAIVE, 1))
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    assert losses.get_xlabel() == "helpfulness win rate"
    assert losses.get_ylabel() == "safety win rate"
    assert [text.get_text() for text in merges.texts][-3:] == ["q=0.25", "q=0.75", "q=0.5"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["SFT (baseline)", H, S, HS, SH, P, NAIVE]
    check_labels(figure)


def test_points_stand_where_the_scores_are(world: World) -> None:
    scores = score(world)
    merges = lay_out_panels(scores).axes[2]
    style = find_styles([policy_of(P)])[P]
    (line,) = [line for line in merges.lines if line.get_marker() == style.marker]
    rows = [row for row in scores.policies if row.policy.policy.family == P]
    assert list(line.get_xdata()) == [row.rate("helpfulness").value for row in rows] == [0.625, 0.5]  # type: ignore[arg-type]
    assert list(line.get_ydata()) == [row.rate("safety").value for row in rows] == [0.375, 0.75]  # type: ignore[arg-type]
    assert len(merges.collections) == 2 * 8 - 2  # two bars for each policy but the reversed one


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([H, HS], [("helpfulness first", (H, HS))]),
        ([S, SH], [("reversed order", (S, SH))]),
        ([H, S], [("", (H, S))]),
        (["KTO(S)", SH, "gpt"], [("reversed order", ("KTO(S)", SH, "gpt"))]),
        (["gpt", P, HS], [("helpfulness first", ("gpt", HS)), ("merges", ("gpt", P, HS))]),
        ([f"P-SACPO {SH}"], [("merges", (f"P-SACPO {SH}",))]),
        (["lora16 DPO(H)", H, HS, "lora16 DPO(H)→DPO(S)", SH], None),
        ([], [("", ())]),
    ],
)
def test_panels_without_anything_are_left_out_and_no_policy_is_lost(
    names: list[str], expected: list[tuple[str, tuple[str, ...]]] | None
) -> None:
    panels = choose_panels(map(policy_of, names), ["helpfulness", "safety"])
    assert {name for panel in panels for name in panel.names} == set(names)
    if expected is not None:
        assert [(panel.title, panel.names) for panel in panels] == expected
    else:
        assert panels[1].names == (H, HS, SH)  # another adapter's stages are no counterpart


def test_one_panel_is_as_wide_as_a_column(tmp_path: Path) -> None:
    figure = lay_out_panels(score(make_world(tmp_path, [H, HS])))
    (axes,) = figure.axes
    assert axes.get_title() == "helpfulness first"
    assert figure.get_figwidth() == 3.25
    check_labels(figure)


def test_published_points_are_hollow_and_joined_to_ours(world: World) -> None:
    scores = score(world, "sacpo_table3")
    figure = lay_out_panels(scores)
    _, orders, merges = figure.axes
    assert points_of(orders) == drawn((H, 1), (S, 1), (HS, 2), (SH, 1))
    hollow = {("beaver-7b-v1.0", 1), (H, 1), (S, 1), (HS, 4), (SH, 4)}
    assert points_of(orders, is_hollow=True) == drawn(*hollow)
    assert points_of(merges, is_hollow=True) == drawn(
        ("beaver-7b-v1.0", 1), (H, 1), (S, 1), (HS, 4), (P, 3), (NAIVE, 3)
    )
    # Joined are those with our losses, order, β and q; the others carry labels of their own.
    joins = [line for line in orders.lines if line.get_linewidth() == 0.4]
    assert len(joins) == 5
    assert len([text for text in orders.texts if text.get_text()]) == 5 + (2 + 3)
    assert figure.legends[0].get_title().get_text().endswith("hollow, joined to ours: Wachi et al. 2024")
    check_labels(figure)


def test_a_withheld_rate_leaves_the_published_one_its_label(world: World) -> None:
    lost = world.train(("kto", "helpfulness", 0.1))
    world.judgments(lost, answers([1, 1, 1, 0], [None] * 4))
    published = score(world, "sacpo_table3").published
    assert published
    paired = {pair.row.policy.title: pair for pair in published.pairings if pair.own}
    assert paired["KTO(H) β=0.1"].drawn is None
    assert paired["DPO(H) β=0.1"].drawn == (paired["DPO(H) β=0.1"].row, paired["DPO(H) β=0.1"].own)


def test_files_embed_their_fonts_and_are_the_same_bytes(world: World) -> None:
    scores = score(world)
    files = draw_panels(scores)
    assert files == draw_panels(scores)
    pdf = files["pdf"]
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /CIDFontType2" in pdf  # fonttype 42
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf
    assert b"CreationDate" not in pdf
    assert b"/Subtype /Image" not in pdf  # drawn, not a picture


def test_a_report_for_a_paper_has_the_panels_and_one_for_the_screen_has_not(world: World) -> None:
    folder = world.report(figures=FigureForm.paper)
    assert {path.name for path in folder.glob("panels*")} == {"panels.pdf", "panels.png"}
    world.report()
    assert not list(folder.glob("panels*"))


def test_the_screen_has_the_same_colours_and_marks_the_front(world: World) -> None:
    (axes,) = draw_figure(score(world)).axes
    rings = [line for line in axes.lines if line.get_label() == "Pareto front"]
    found = {entry for entry in points_of(axes) if entry[0] != "o" or entry[1] != to_rgb("0.25")}
    assert set(drawn((H, 1), (S, 1), (HS, 2), (SH, 1), (P, 2), (NAIVE, 1))) == found
    (ring,) = rings
    # By hand: most helpful 0.875 is the reversed order; nobody is both more helpful and safer than these.
    front = [(0.375, 0.875), (0.5, 0.75), (0.625, 0.625), (0.875, 0.375)]
    assert [tuple(point) for point in ring.get_xydata()] == front  # type: ignore[union-attr]
