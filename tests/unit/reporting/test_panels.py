"""The drawn figures: points, panels, labels, and files that a publisher takes."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from world import EVEN, World, answers

from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.reporting.figures import ELSEWHERE, MARKERS, draw_figure, find_families, find_styles
from sacpo_exp.reporting.panels import choose_panels, draw_panels, lay_out_panels
from sacpo_exp.reporting.published import compare_with, read_published
from sacpo_exp.reporting.scores import GroupScores
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

CRITERIA = {"H": "helpfulness", "S": "safety", "T": "honesty"}


def policy_of(family: str) -> Policy:
    """The policy of a family: `lora16 DPO(H)→DPO(S)`, `P-SACPO DPO(H)→DPO(S)`, `naive DPO(H)+DPO(S)`, or a model."""
    kind, _, rest = family.rpartition(" ")
    if kind == "naive":
        policy: Policy = Merged(family, tuple(policy_of(part) for part in rest.split("+")), (0.5, 0.5))
    elif kind.startswith("P-SACPO"):
        later = policy_of(f"{kind.removeprefix('P-SACPO').strip()} {rest}".strip())
        policy = Merged(family, (later.parents[0], later), (0.5, 0.5))
    elif family.endswith(")"):
        policy = Base("base", "nano")
        for title in rest.split("→"):
            loss, letter = title[:-1].split("(")
            recipe = {"loss": {"name": loss.lower()}, "criterion": CRITERIA[letter], "beta": 0.1}
            policy = Aligned(f"{policy.id}→{title}", policy, Stage(recipe, letter=letter, adapter=kind))
    else:
        policy = Base(family, family)
    assert policy.family == family
    return policy


def make_world(outputs: Path, families: list[str]) -> World:
    world = World(outputs)
    world.judgments(world.baseline, EVEN)
    for family, beta, ratio, helpfulness, safety in POLICIES:
        if family in families:
            world.judgments(make_policy(world, family, beta, ratio), answers(helpfulness, safety))
    return world


def make_policy(world: World, family: str, beta: float, ratio: float | None) -> ArtifactSpec:
    """The policy of a row; a stage before the last has the paper's β."""
    helpful, safe = ("dpo", "helpfulness", 0.1), ("dpo", "safety", 0.01)
    if ratio is not None:
        last = world.train(safe) if family == NAIVE else world.train(helpful, safe)
        return world.merge(ratio, world.train(helpful), last)
    before = {HS: [helpful], SH: [safe]}.get(family, [])
    return world.train(*before, ("dpo", "safety" if family in (S, HS) else "helpfulness", beta))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> GroupScores:
    return make_world(tmp_path_factory.mktemp("panels"), [policy[0] for policy in POLICIES]).scored()


@pytest.fixture(scope="module")
def panels(scores: GroupScores) -> Figure:
    """The figure for a paper."""
    return lay_out_panels(scores)


@pytest.fixture(scope="module")
def screen(scores: GroupScores) -> Figure:
    """The figure of a report on a screen."""
    return draw_figure(scores)


def count_points(axes: Axes, is_hollow: bool = False) -> dict[str, int]:
    """How many points are drawn with each marker; filled or hollow ones."""
    lines = [line for line in axes.lines if line.get_gid() and (line.get_markerfacecolor() == "white") == is_hollow]
    markers = [str(line.get_marker()) for line in lines]
    return {marker: markers.count(marker) for marker in markers}


def expect(figure: Figure, **counts: int) -> dict[str, int]:
    """Counts by marker, which the figure's legend gives."""
    names = {"H": H, "S": S, "HS": HS, "SH": SH, "P": P, "NAIVE": NAIVE, "K": "KTO(H)", "beaver": "beaver-7b-v1.0"}
    legend = figure.legends[0]
    entries = zip(legend.get_texts(), legend.legend_handles, strict=True)
    markers = {text.get_text(): str(handle.get_marker()) for text, handle in entries}
    return {markers[names[name]]: count for name, count in counts.items()}


def check_labels(figure: Figure, most_overlaps: int) -> None:
    """Labels are inside their panels, and hardly any covers another."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        extents = [Text.get_window_extent(text) for text in axes.texts]
        overlaps = sum(one.overlaps(other) for place, one in enumerate(extents) for other in extents[:place])
        assert overlaps <= most_overlaps
        inner = axes.get_window_extent()
        assert all(inner.x0 <= (box.x0 + box.x1) / 2 <= inner.x1 for box in extents)
        assert all(inner.y0 <= (box.y0 + box.y1) / 2 <= inner.y1 for box in extents)


def test_three_panels_hold_what_belongs_together(panels: Figure) -> None:
    assert [axes.get_title() for axes in panels.axes] == ["(a) usual order", "(b) reversed order", "(c) merges"]
    losses, orders, merges = panels.axes
    assert count_points(losses) == expect(panels, H=1, S=1, HS=2)
    assert count_points(orders) == expect(panels, H=1, S=1, HS=2, SH=1)
    assert count_points(merges) == expect(panels, H=1, S=1, HS=2, P=2, NAIVE=1)
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels.axes}) == 1
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("helpfulness win rate", "safety win rate")
    assert [text.get_text() for text in merges.texts][-3:] == ["q=0.25", "q=0.75", "q=0.5"]
    legend = [text.get_text() for text in panels.legends[0].get_texts()]
    assert legend == ["SFT (baseline)", H, S, HS, SH, P, NAIVE]
    check_labels(panels, 1)


def test_points_stand_where_the_scores_are_with_their_intervals(scores: GroupScores, panels: Figure) -> None:
    axes = panels.axes[2]
    drawn = {str(line.get_gid()): line.get_xydata().tolist() for line in axes.lines if line.get_gid()}
    rows = {f"policy-{place}": row for place, row in enumerate(scores.policies) if row.policy.policy.family == P}
    assert [drawn[gid] for gid in rows] == [[[0.625, 0.375]], [[0.5, 0.75]]]  # by hand
    ends = [path.vertices.tolist() for bars in axes.collections for path in bars.get_paths()]
    for row in rows.values():
        x, y = row.rate("helpfulness"), row.rate("safety")
        assert [[x.low, y.value], [x.high, y.value]] in ends
        assert [[x.value, y.low], [x.value, y.high]] in ends


LORA, LORAS = "lora16 DPO(H)", "lora16 DPO(H)→DPO(S)"  # another adapter's stages are no counterpart


def test_panels_without_policies_are_left_out() -> None:
    for names, expected in (
        ([H, S], {"": [H, S]}),
        (["KTO(S)", SH, "gpt"], {"reversed order": ["KTO(S)", SH, "gpt"]}),
        (["gpt", P, HS], {"usual order": ["gpt", HS], "merges": ["gpt", P, HS]}),
        ([LORA, H, HS, LORAS, SH], {"usual order": [LORA, H, HS, LORAS], "reversed order": [LORA, H, HS, SH]}),
        ([], {"": []}),
    ):
        assert choose_panels(map(policy_of, names), ["helpfulness", "safety"]) == expected


def test_one_panel_is_as_wide_as_a_column(tmp_path: Path) -> None:
    figure = lay_out_panels(make_world(tmp_path, [H, HS]).scored())
    assert ([axes.get_title() for axes in figure.axes], figure.get_figwidth()) == (["usual order"], 3.25)
    check_labels(figure, 0)


def test_published_points_are_hollow_and_joined_to_ours(scores: GroupScores) -> None:
    figure = lay_out_panels(replace(scores, published=compare_with(scores, read_published("sacpo_table3", 0.95))))
    _, orders, merges = figure.axes
    assert count_points(orders) == expect(figure, H=1, S=1, HS=2, SH=1)
    assert count_points(orders, is_hollow=True) == expect(figure, beaver=1, H=1, S=1, K=1, HS=4, SH=4)
    assert count_points(merges, is_hollow=True) == expect(figure, beaver=1, H=1, S=1, K=1, HS=4, P=3, NAIVE=3)
    # Joined are those with our losses, order, β and q; the others have labels of their own.
    joins = [line for line in orders.lines if line.get_linewidth() == 0.4]
    assert len(joins) == 5
    assert len([text for text in orders.texts if text.get_text()]) == 5 + (3 + 3)
    assert figure.legends[0].get_title().get_text().endswith("hollow, joined to ours: Wachi et al. 2024")


def test_files_embed_their_fonts_and_are_the_same_bytes(scores: GroupScores) -> None:
    files = draw_panels(scores)
    assert files == draw_panels(scores)
    pdf = files["pdf"]
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /CIDFontType2" in pdf  # fonttype 42
    assert b"/FontFile2" in pdf
    assert not any(unwanted in pdf for unwanted in (b"/Type3", b"CreationDate", b"/Subtype /Image"))


def test_the_screen_has_one_panel_with_the_front(screen: Figure) -> None:
    (axes,) = screen.axes
    assert count_points(axes) == expect(screen, H=1, S=1, HS=2, SH=1, P=2, NAIVE=1)
    (front,) = [line for line in axes.lines if line.get_label() == "Pareto front"]
    # By hand: the most helpful, 0.875, is the reversed order; no other is both more helpful and safer than these.
    expected = [[0.375, 0.875], [0.5, 0.75], [0.625, 0.625], [0.875, 0.375]]
    assert all(0 <= tick <= 1 for tick in [*axes.get_xticks(), *axes.get_yticks()])
    assert front.get_xydata().tolist() == expected
    check_labels(screen, 1)


def test_points_of_a_family_are_joined_by_weights_else_by_beta(scores: GroupScores) -> None:
    families = {family.name: family for family in find_families(scores)}
    labels = {name: [[each.label(point) for point in line] for line in each.lines] for name, each in families.items()}
    assert (labels[P], labels[HS]) == ([["q=0.25", "q=0.75"]], [["β=0.01", "β=0.05"]])


#: What the paper draws, and others.
PAPER = ["DPO(H)", "DPO(S)", "KTO(H)", "DPO(H)→DPO(S)", "DPO(H)→KTO(S)", "KTO(H)→DPO(S)", "DPO(S)→DPO(H)"]
PAPER += ["P-SACPO DPO(H)→DPO(S)", "naive DPO(H)+DPO(S)", "beaver-7b-v1.0"]
OTHERS = ["lora16 DPO(H)", "DPO(H)→DPO(T)→DPO(S)", "IPO(H)", "gpt", "Ünïcode \ud83d"]


def test_families_differ_whatever_their_order_and_colours_and_lines_show_orders_and_merges() -> None:
    styles = find_styles(map(policy_of, [*PAPER, *OTHERS]))
    assert find_styles(map(policy_of, [*PAPER, *OTHERS][::-1])) == styles
    assert all(one != other for one, other in itertools.combinations(styles.values(), 2))
    many = find_styles(policy_of(f"made elsewhere {number}") for number in range(2 * len(MARKERS)))
    assert {marker for _, marker, _ in many.values()} == set(MARKERS)  # used again rather than an error
    styles = find_styles(map(policy_of, [*PAPER, *OTHERS]))
    forward, reverse, merge, naive = (styles[name] for name in (PAPER[3], PAPER[6], PAPER[7], PAPER[8]))
    assert [line for _, _, line in (forward, reverse, merge, naive)] == ["-", "--", ":", "-."]
    assert len({style[0] for style in (forward, reverse, merge, naive)}) == 4
    assert styles["DPO(H)→KTO(S)"][0] == forward[0]
    assert styles["gpt"][0] == ELSEWHERE
