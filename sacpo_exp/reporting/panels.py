"""The trade-off figure as a paper has it: losses, orders and merges in panels that share their axes, as pdf and png."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sacpo_exp.method.policy import Merged, Policy
from sacpo_exp.reporting.drawing import (
    BASELINE,
    LONGEST_NAME,
    colour_marker,
    draw_baseline,
    draw_family,
    draw_hollow,
    join,
    plain_style,
    save_figure,
    set_limits,
)
from sacpo_exp.reporting.families import Family, find_families
from sacpo_exp.reporting.figures import name_baseline
from sacpo_exp.reporting.labelling import label_points
from sacpo_exp.reporting.numbers import shorten
from sacpo_exp.reporting.pairs import is_forward
from sacpo_exp.reporting.scores import GroupScores

#: Inches: the text of a page with one column (NeurIPS), and one column of two (ICML).
TEXT_WIDTH, COLUMN_WIDTH = 5.5, 3.25
PANEL_HEIGHT = 2.0
LEGEND_LINE = 0.14
DPI = 300
#: Points.
POINT, SMALL, SMALLEST = 4.5, 7.0, 5.5
STYLE = {
    "pdf.fonttype": 42,  # whole outlines, which publishers ask for, rather than Type 3
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # as the text around it; both come with matplotlib
    "font.size": SMALL,
    "axes.titlesize": SMALL,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "axes.linewidth": 0.5,
    "grid.linewidth": 0.4,
}


@dataclass(frozen=True)
class Panel:
    """What is drawn side by side, by the names of the families."""

    title: str
    names: tuple[str, ...]

    def choose(self, families: Sequence[Family]) -> list[Family]:
        """Those of this panel."""
        return [family for family in families if family.name in self.names]


def draw_panels(scores: GroupScores) -> dict[str, bytes]:
    """The figure as content of a `pdf` and of a `png` file, the same bytes for the same scores."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table of a font that it writes
    with plain_style(seaborn.plotting_context("paper"), STYLE):
        figure = lay_out_panels(scores)
        return {
            "pdf": save_figure(figure, "pdf", {"CreationDate": None}),
            "png": save_figure(figure, "png", {}),
        }


def choose_panels(policies: Iterable[Policy], criteria: Sequence[str]) -> list[Panel]:
    """The panels that have something to show, of the three that the paper's main figure has.

    Beside its own, a panel holds what this has to be compared with: beside a reversed order the same stages the other
    way round, beside a merge its ends, and single stages of all these. Policies that were made elsewhere are in all.

    Args:
        criteria: names in their usual order; another one is reversed.
    """
    families = {policy.family: _Kind.of(policy) for policy in policies}
    known = [kind for kind in families.values() if kind.steps]
    several = [kind for kind in known if not kind.merge and len(kind.steps) > 1]
    forward = {kind for kind in several if is_forward(kind.criteria, criteria)}
    reverse = {kind for kind in several if kind not in forward}
    firsts = {kind.criteria[0] for kind in forward}
    merges = {kind for kind in known if kind.merge}
    ends = {replace(kind, merge="") for kind in merges}
    chosen = {
        f"{firsts.pop()} first" if len(firsts) == 1 else "usual order": forward,
        "reversed order": reverse and reverse | {kind for kind in forward if kind.mirrored in reverse},
        "merges": merges and merges | {kind for kind in forward | reverse if kind in ends},
    }
    shown = {title: own | {part for kind in own for part in kind.parts} for title, own in chosen.items() if own}
    shown = shown or {"": set()}
    # Single stages that lead nowhere are results too.
    shown[next(iter(shown))] |= set(known).difference(*shown.values())
    return [
        Panel(title, tuple(name for name, kind in families.items() if not kind.steps or kind in members))
        for title, members in shown.items()
    ]


@dataclass(frozen=True)
class _Kind:
    """How a family is trained: its (criterion, loss) in order, its adapter, and how it is merged, if it is."""

    steps: tuple[tuple[str, str], ...]
    adapter: str
    merge: str = ""

    @classmethod
    def of(cls, policy: Policy) -> "_Kind":
        steps = tuple((stage.criterion or "", stage.loss) for stage in policy.aligned)
        merge = ("naive" if policy.is_naive else "linear") if isinstance(policy, Merged) else ""
        return cls(steps, policy.aligned[0].adapter if policy.aligned else "", merge)

    @property
    def criteria(self) -> tuple[str, ...]:
        return tuple(criterion for criterion, _ in self.steps)

    @property
    def mirrored(self) -> "_Kind":
        """The same stages the other way round."""
        return replace(self, steps=self.steps[::-1])

    @property
    def parts(self) -> "list[_Kind]":
        """Each stage as a policy that has this stage alone."""
        return [_Kind((step,), self.adapter) for step in self.steps]


def lay_out_panels(scores: GroupScores) -> Figure:
    """The figure, with its layout fixed and its labels placed for that layout; published policies are hollow."""
    published = scores.published.published.rows if scores.published else ()
    pairs = [each.drawn for each in scores.published.pairings if each.drawn] if scores.published else []
    ours = find_families(scores.policies, scores.axes, published)
    theirs = find_families(published, scores.axes, scores.policies)
    names = [criterion.name for criterion in scores.group.criteria]
    panels = choose_panels([family.rows[0].policy.policy for family in [*ours, *theirs]], names)
    handles = _make_handles(scores, ours, theirs)
    columns = 3 if len(panels) > 1 else 2
    height = PANEL_HEIGHT + LEGEND_LINE * (2 + -(-len(handles) // columns))
    size = (TEXT_WIDTH if len(panels) > 1 else COLUMN_WIDTH, height)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    many = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for letter, axes, panel in zip("abc", many, panels, strict=False):
        draw_baseline(axes, POINT)
        for family in panel.choose(theirs):
            draw_hollow(axes, family, POINT)
        for family in panel.choose(ours):
            draw_family(axes, family, POINT)
        for row, own in pairs:
            for family in theirs:
                if row in family.rows and family.name in panel.names:
                    join(axes, family, row, own)
        axes.set_title(f"({letter}) {panel.title}" if len(panels) > 1 else panel.title)
        axes.set_xlabel(f"{scores.axes[0]} win rate")
    many[0].set_ylabel(f"{scores.axes[1]} win rate")
    set_limits(many[0], [*ours, *theirs], 5)
    _explain(figure, scores, handles, columns)
    # The layout has to be final before texts can be measured against it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paired = {id(row) for row, _ in pairs}  # whose labels ours have
    unpaired = [row for row in published if id(row) not in paired]
    alone = find_families(unpaired, scores.axes, [*published, *scores.policies])
    for axes, panel in zip(many, panels, strict=True):
        chosen = panel.choose(theirs)
        hollow = [family.point(row) for family in chosen for row in family.rows if id(row) in paired]
        marks = [(BASELINE, BASELINE), *hollow]
        label_points(axes, panel.choose([*ours, *alone]), marks, SMALLEST)
    return figure


def _make_handles(scores: GroupScores, ours: Sequence[Family], theirs: Sequence[Family]) -> list[Line2D]:
    """The legend: each family once, hollow where only others have it."""
    cross = Line2D([], [], color="black", marker="x", linestyle="none", markersize=POINT, label=name_baseline(scores))
    own = {family.name for family in ours}
    hollow = [_make_handle(family, True) for family in theirs if family.name not in own]
    return [cross, *(_make_handle(family, False) for family in ours), *hollow]


def _make_handle(family: Family, is_hollow: bool) -> Line2D:
    is_joined = not is_hollow and any(len(line) > 1 for line in family.lines)
    line = family.style.line if is_joined else "none"
    look: dict[str, Any] = {"linestyle": line, "linewidth": 0.8, "marker": family.style.marker, "markersize": POINT}
    return Line2D([], [], label=shorten(family.name, LONGEST_NAME), **look, **colour_marker(family, POINT, is_hollow))


def _explain(figure: Figure, scores: GroupScores, handles: list[Line2D], columns: int) -> None:
    title = f"win rates are against the baseline; bars: {100 * scores.confidence:g} % intervals"
    title += f"; hollow, joined to ours: {scores.published.published.short}" if scores.published else ""
    figure.legend(
        *(handles, [str(handle.get_label()) for handle in handles]),
        loc="outside lower center",
        ncols=columns,
        title=title,
        title_fontsize=SMALL,
        frameon=False,
        columnspacing=1.5,
    )
