"""The trade-off figure for a paper: losses, orders and merges in panels that share their axes."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import seaborn
from matplotlib.figure import Figure

from sacpo_exp.method.policy import Policy
from sacpo_exp.reporting.cohorts import is_forward
from sacpo_exp.reporting.figures import (
    draw_families,
    find_baseline_name,
    find_families,
    fix_layout,
    label_points,
    make_handle,
    plain_style,
    save_figure,
    values_of,
)
from sacpo_exp.reporting.scores import GroupScores

#: Inches: the text of a page with one column (NeurIPS), and one column of two (ICML).
TEXT_WIDTH: Final = 5.5
COLUMN_WIDTH: Final = 3.25
STYLE: Final[dict[str, Any]] = {
    "pdf.fonttype": 42,  # whole outlines, which publishers ask for, rather than Type 3
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # as the text around it; both come with matplotlib
    "lines.markersize": 4.5,
    **dict.fromkeys(("lines.linewidth", "axes.linewidth", "grid.linewidth"), 0.5),
}


def draw_panels(scores: GroupScores) -> dict[str, bytes]:
    """Return the figure as content of a `pdf` and of a `png` file, the same bytes for the same scores."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of a font that it writes
    with plain_style(seaborn.plotting_context("paper", font_scale=0.75), STYLE):
        return save_figure(lay_out_panels(scores), "pdf", "png")


def choose_panels(policies: Iterable[Policy], criteria: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the families in each panel, by the panel's title.

    The three panels of the paper's main figure: stages in the usual order, in reversed order, and merges. The latter
    two also show policies with the same stages in the usual order, that of `criteria`, and all show single stages and
    policies made elsewhere. A panel without policies of its own is left out.
    """
    families = {policy.family: policy for policy in policies}
    kinds: dict[str, list[str]] = {"usual order": [], "reversed order": [], "merges": []}
    stages = {}
    for name, policy in families.items():
        stages[name] = sorted((str(stage.criterion), stage.loss, stage.adapter) for stage in policy.aligned)
        if len(policy.aligned) > 1:
            order = "usual order" if is_forward(policy.criteria, criteria) else "reversed order"
            kinds["merges" if policy.weights else order].append(name)
    panels = {}
    for title, own in kinds.items():
        same = [name for name in kinds["usual order"] if stages[name] in [stages[other] for other in own]]
        if own:
            panels[title] = [name for name in families if name in [*own, *same] or len(stages[name]) < 2]
    return panels or {"": list(families)}


def lay_out_panels(scores: GroupScores) -> Figure:
    """Return the figure; published policies are hollow, and joined to ours if they were trained in the same way."""
    families = find_families(scores, with_published=True)
    names = [criterion.name for criterion in scores.group.criteria]
    panels = choose_panels([family.points[0].policy.policy for family in families], names)
    ours = {family.name for family in families if not family.is_published}
    legend = [family for family in families if not family.is_published or family.name not in ours]
    columns = 3 if len(panels) > 1 else 2
    size = (TEXT_WIDTH if len(panels) > 1 else COLUMN_WIDTH, 2.3 + 0.14 * -(-(1 + len(legend)) // columns))
    figure = Figure(figsize=size, dpi=300, layout="constrained")
    many = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    points = {id(point.policy): point for family in families for point in family.points}
    pairings = scores.published.pairings if scores.published else ()
    pairs = [(id(row.policy), id(own.policy)) for row, own in pairings if own]
    joined = [(points[theirs], points[own]) for theirs, own in pairs if {theirs, own} <= points.keys()]
    without = {theirs.gid for theirs, _ in joined}  # the label of ours is enough
    for letter, axes, (title, chosen) in zip("abc", many, panels.items(), strict=False):
        draw_families(axes, find_baseline_name(scores), [family for family in families if family.name in chosen])
        for pair in joined:
            if pair[0].policy.policy.family in chosen:
                axes.plot(*values_of(pair), color="0.35", linewidth=0.4, zorder=2.5)
        axes.set_title(f"({letter}) {title}" if len(panels) > 1 else title)
        axes.set_xlabel(f"{scores.axes[0]} win rate")
    many[0].set_ylabel(f"{scores.axes[1]} win rate")
    note = f"win rates are against the baseline; bars: {scores.percent} intervals"
    note += f"; hollow, joined to ours: {scores.published.published.config.short}" if scores.published else ""
    handles = [many[0].lines[0], *map(make_handle, legend)]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=note, frameon=False)
    fix_layout(figure)
    for axes, chosen in zip(many, panels.values(), strict=True):
        label_points(axes, [family for family in families if family.name in chosen], without)
    return figure
