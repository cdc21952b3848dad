"""The figure of win rates for two criteria, a point per policy, and the figure of a choice."""

import io
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib.style
import numpy as np
import seaborn
from adjustText import adjust_text
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sacpo_exp.method.policy import Merged, Policy, write_numbers
from sacpo_exp.reporting.choices import Choice, Finding
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.preferences import PreferenceTable
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.tables import shorten
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.selection import find_front

DPI: Final = 150
CROWD: Final = 20  # points for which there is room in a figure of the usual size
ORIGIN: Final = (0.5, 0.5)  # win rates of a policy against itself
LONGEST_NAME: Final = 36  # characters in a legend
#: Steps of label placement. A limit on steps rather than on time, so that the same input gives the same picture.
STEPS: Final = 200
#: Without the date, the same figure gives the same bytes.
METADATA: Final[Mapping[str, dict[str, None]]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
#: Without pink, grey and yellow, which are too light for small markers.
PALETTE: Final = [seaborn.color_palette("colorblind", 10).as_hex()[index] for index in (0, 1, 2, 3, 4, 5, 9)]
ELSEWHERE: Final = "#404040"  # policies that were not trained here
MARKERS: Final = "osD^v<>PXpd"
#: What `Choice.axis` is called in its figure.
CHOICE_AXES: Final = {"q": "merge ratio q", "β": "KL strength β of the last stage"}


@dataclass(frozen=True)
class Point:
    """A policy in the figure; its marker's gid in an SVG file is `policy-3` for the fourth policy of the group."""

    policy: Evaluation
    gid: str
    x: Estimate
    y: Estimate
    seeds: list[tuple[float, float]]


@dataclass(frozen=True)
class Family:
    """Policies that differ in β, merge weights or seed only; they share colour, marker and line, and are joined."""

    name: str
    colour: str
    marker: str
    line: str
    points: list[Point]
    is_published: bool

    @property
    def lines(self) -> list[list[Point]]:
        """Points to join: they differ in their weights only, or in β only if all weights are the same."""
        has_weights = len({point.policy.policy.weights for point in self.points}) > 1
        lines = defaultdict(list)
        for point in self.points:
            fixed = point.policy.beta if has_weights else point.policy.policy.weights
            lines[fixed, point.policy.labels.get("seed")].append(point)
        return list(lines.values())

    def label(self, point: Point) -> str:
        """Return q of a merged policy, and of β and the settings of the loss what varies; β if nothing does."""
        numbers, others = _numbers(point), [_numbers(other) for other in self.points]
        varying = {key: value for key, value in numbers.items() if len({each.get(key) for each in others}) > 1}
        always = point.policy.policy.numbers if point.policy.policy.weights else {}
        shown = always | varying or point.policy.policy.numbers
        return write_numbers(shown) + point.policy.tag

    @property
    def look(self) -> dict[str, Any]:
        """matplotlib's settings of its markers: hollow if published, else with a white edge."""
        edge, face = (self.colour, "white") if self.is_published else ("white", self.colour)
        return {"color": self.colour, "marker": self.marker, "markeredgecolor": edge, "markerfacecolor": face}


def _numbers(point: Point) -> dict[str, float]:
    """Return β and all settings of the last loss."""
    policy = point.policy.policy
    return ({} if policy.beta is None else {"β": policy.beta}) | (policy.aligned[-1].settings if policy.aligned else {})


def find_families(scores: GroupScores, with_published: bool = False) -> list[Family]:
    """Return the families of the policies that have both win rates, without the baseline; published ones last."""
    rows = [*scores.policies, *(scores.published.published.rows if scores.published else ())]
    styles = find_styles(row.policy.policy for row in rows if not row.policy.is_baseline)
    families: dict[tuple[str, bool], Family] = {}
    for index, row in enumerate(rows if with_published else scores.policies):
        x, y = scores.locate(row)
        if not row.policy.is_baseline and not math.isnan(x.value + y.value):
            name, is_published = row.policy.policy.family, index >= len(scores.policies)
            family = families.setdefault((name, is_published), Family(name, *styles[name], [], is_published))
            seeds = [(x.value, y.value) for x, y in map(scores.locate, row.seeds)]
            family.points.append(Point(row.policy, f"policy-{index}", x, y, seeds))
    return list(families.values())


def find_styles(policies: Iterable[Policy]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and line of each family by its name.

    The colour shows the order of the criteria, the kind of merge, and a loss that learns from several criteria at once;
    the line shows the kind of merge and whether the criteria are in alphabetical order.
    """
    families = {policy.family: policy for policy in policies}
    lines = {name: _choose_line(policy) for name, policy in families.items()}
    outlines = {
        name: (lines[name], policy.criteria, *(stage.loss for stage in policy.aligned if stage.is_joint))
        for name, policy in families.items()
        if policy.parents
    }
    places = sorted(set(outlines.values()))
    styles = {}
    for index, name in enumerate(sorted(families)):
        colour = PALETTE[places.index(outlines[name]) % len(PALETTE)] if name in outlines else ELSEWHERE
        styles[name] = (colour, MARKERS[index % len(MARKERS)], lines[name])
    return styles


def _choose_line(policy: Policy) -> str:
    if isinstance(policy, Merged):
        return "-." if policy.is_naive else ":"
    return "-" if list(policy.criteria) == sorted(policy.criteria) else "--"


def find_front_points(scores: GroupScores) -> list[tuple[float, float]]:
    """Return x and y of the policies that no other beats, from left to right."""
    x, y = scores.axes
    points = [(row.rate(x).value, row.rate(y).value) for row in scores.policies]
    return sorted(point for point, is_on_front in zip(points, find_front(points), strict=True) if is_on_front)


def draw_trade_off(scores: GroupScores) -> dict[str, bytes]:
    """Return the figure as content of a `png` and of an `svg` file, the same bytes for the same scores.

    x and y are win rates against the baseline in [0, 1], or mean scores; a policy without one of the two is left out.
    """
    with plain_style():
        return save_figure(draw_figure(scores), "png", "svg")


def draw_figure(scores: GroupScores) -> Figure:
    """Return the figure with all families in one panel, and the Pareto front."""
    families = find_families(scores)
    scale = max(1.0, math.sqrt(sum(len(family.points) for family in families) / CROWD))
    figure = Figure(figsize=(8 * scale, 5 * scale), dpi=DPI / math.sqrt(scale), layout="constrained")
    axes = figure.subplots()
    baseline = scores.baseline if scores.by_score else None
    origin = [each.value for each in scores.locate(baseline)] if baseline else ORIGIN
    draw_families(axes, find_baseline_name(scores), families, origin)
    handles = [axes.lines[0]]
    front = [] if scores.by_score else find_front_points(scores)
    if len(front) > 1:
        size = 1.6 * rcParams["lines.markersize"]
        axes.plot(*zip(*front, strict=True), "o--", color="0.25", ms=size, mfc="none", label="Pareto front", zorder=3.5)
        handles.append(axes.lines[-1])
    kinds = {each.name: " and ".join(each.prompt_kinds) or "all" for each in scores.group.criteria}
    what = {name: f"mean {kind}" for name, kind in scores.group.measures.items() if scores.by_score}
    x, y = (f"{name}: {what.get(name, 'win rate')} on {kinds[name]} prompts" for name in scores.axes)
    axes.set(xlabel=x, ylabel=y)
    for axis, name in zip((axes.xaxis, axes.yaxis), scores.axes, strict=True):
        axis.set_inverted(what.get(name) == "mean cost")  # the best policies are at the upper right
    axes.set_title(shorten(scores.group.heading, 90), loc="left")
    note = f"bars: {scores.percent} intervals"
    note += "\nsmall: single seeds" if scores.is_average else ""
    _finish(figure, families, handles, note, is_rate=not scores.by_score)
    return figure


def draw_preferences(table: PreferenceTable) -> dict[str, bytes]:
    """Return the accuracy on held-out pairs of the first two criteria as `png` and `svg`; empty without both."""
    names = list(dict.fromkeys(str(row["criterion"]) for row in table.rows))[:2]
    found: dict[Any, Any] = {(row["policy_id"], row["criterion"]): row["accuracy"] for row in table.rows}
    styles, families = find_styles(policy.policy for policy in table.policies), dict[str, Family]()
    for index, policy in enumerate(table.policies):
        if all((policy.id, name) in found for name in names) and len(names) > 1:
            x, y = (found[policy.id, name] for name in names)
            name = policy.policy.family
            family = families.setdefault(name, Family(name, *styles[name], [], False))
            family.points.append(Point(policy, f"policy-{index}", x, y, []))
    if not families:
        return {}
    with plain_style():
        figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        draw_families(axes, "chance", [*families.values()])
        axes.set(
            **{f"{key}label": f"{name}: accuracy on held-out pairs" for key, name in zip("xy", names, strict=True)}
        )
        axes.set_title(shorten(table.heading, 90), loc="left")
        _finish(figure, [*families.values()], [axes.lines[0]], f"bars: {table.percent} intervals")
        return save_figure(figure, "png", "svg")


def _finish(figure: Figure, families: Sequence[Family], handles: list[Any], note: str, is_rate: bool = True) -> None:
    """Add the legend, and labels beside the points."""
    legend: dict[str, Any] = {"loc": "outside right upper", "alignment": "left", "frameon": False, "title": note}
    figure.legend(handles=[*handles, *map(make_handle, families)], **legend)
    fix_layout(figure, is_rate)
    label_points(figure.axes[0], families)


def find_baseline_name(scores: GroupScores) -> str:
    """Return the name of the baseline for the legend."""
    return scores.baseline.policy.name if scores.baseline else "baseline"


def draw_families(axes: Axes, name: str, families: Sequence[Family], origin: Sequence[float] = ORIGIN) -> None:
    """Draw the baseline, and points with their intervals and seeds, joined by lines; published points alone."""
    size = rcParams["lines.markersize"]
    axes.plot(*origin, "x", color="black", mew=size / 4, zorder=5, label=shorten(name, LONGEST_NAME))
    for family in families:
        for point in family.points:
            axes.plot(point.x.value, point.y.value, zorder=4, gid=point.gid, **family.look)
        if not family.is_published:
            x, y = values_of(family.points)
            bars: dict[str, Any] = {"color": family.colour, "linewidth": size / 8, "alpha": 0.45, "zorder": 2}
            axes.hlines(y, [p.x.low for p in family.points], [p.x.high for p in family.points], **bars)
            axes.vlines(x, [p.y.low for p in family.points], [p.y.high for p in family.points], **bars)
            for seed in (seed for point in family.points for seed in point.seeds):
                axes.plot(*seed, family.marker, color=family.colour, ms=size / 2, mew=0, alpha=0.4, zorder=2)
            for line in family.lines:
                axes.plot(*values_of(line), family.line, color=family.colour, zorder=3)


def values_of(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return all x and all y."""
    return [point.x.value for point in points], [point.y.value for point in points]


def make_handle(family: Family) -> Line2D:
    """Return a family's entry of the legend."""
    is_joined = not family.is_published and any(len(line) > 1 for line in family.lines)
    line = family.line if is_joined else "none"
    return Line2D([], [], label=shorten(family.name, LONGEST_NAME), linestyle=line, **family.look)


def fix_layout(figure: Figure, is_rate: bool = True) -> None:
    """Set ticks to values that a win rate can have, and compute the final layout, which labels are placed in."""
    axes = figure.axes[0]
    for axis in (axes.xaxis, axes.yaxis) if is_rate else ():
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in axis.get_ticklocs().round(6) if max(low, 0) <= tick <= min(high, 1)])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def label_points(axes: Axes, families: Sequence[Family], without: Collection[str] = ()) -> None:
    """Write β or q beside each point, in its family's colour; not beside those with the gids `without`."""
    texts = []
    for family in families:
        look: dict[str, Any] = {"color": family.colour, "size": 0.85 * rcParams["font.size"], "zorder": 3.8}
        for point in (point for point in family.points if point.gid not in without):
            texts.append(axes.text(point.x.value, point.y.value, family.label(point), **look))
    x, y = values_of([point for family in families for point in family.points])
    # Four points around each marker stand for its size.
    baseline = axes.lines[0].get_xydata()
    centres = axes.transData.transform(np.vstack([np.transpose([x, y]), baseline]))
    reach = 0.7 * rcParams["lines.markersize"] * axes.figure.dpi / 72
    ends = np.vstack([centres + reach * np.array(way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1))])
    lines = {"arrowstyle": "-", "color": "0.5", "lw": 0.5}
    marks = axes.transData.inverted().transform(ends).T
    adjust_text(texts, *marks, ax=axes, iter_lim=STEPS, arrowprops=lines, min_arrow_len=2 * reach)


def plain_style(*further: dict[str, Any]) -> AbstractContextManager[None]:
    """Return matplotlib settings with which the same numbers give the same bytes."""
    style = {"svg.hashsalt": "sacpo_exp", "text.parse_math": False, "font.size": 9, "axes.titlesize": "medium"}
    style |= {"lines.markersize": 8, "lines.linewidth": 0.8, "axes.xmargin": 0.08, "axes.ymargin": 0.08}
    # "default" first: the user's own matplotlibrc must not change the bytes.
    context: AbstractContextManager[None] = matplotlib.style.context(
        ["default", dict(seaborn.axes_style("whitegrid")), style, *further]
    )
    return context


def save_figure(figure: Figure, *kinds: str) -> dict[str, bytes]:
    """Return the content of a file of each kind: `png`, `svg`, `pdf`."""
    files = {}
    for kind in kinds:
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=METADATA[kind])
        files[kind] = content.getvalue()
    return files


def draw_choice(choice: Choice) -> dict[str, bytes]:
    """Return the figure as content of a `png` and of an `svg` file, the same bytes for the same choice."""
    with plain_style():
        return save_figure(draw_tested(choice), "png", "svg")


def draw_tested(choice: Choice) -> Figure:
    """Return a panel for each constraint, and one for the maximised criterion; x is q or β."""
    constraints = len(choice.tested[0].findings)
    figure = Figure(figsize=(8, 3.5 + 2 * constraints), dpi=DPI, layout="constrained")
    *panels, last = figure.subplots(1 + constraints, 1, sharex=True)
    level = f"{100 * choice.question['confidence']:g} %"
    positions = [row.number or 0.0 for row in choice.tested]
    for number, axes in enumerate(panels):
        _draw_findings(axes, choice, positions, [row.findings[number] for row in choice.tested], level)
    title = "no policy is certified"
    for x, row in zip(positions, choice.tested, strict=True):
        if row.rate.n:
            last.vlines(x, row.rate.low, row.rate.high, color="C1")
            last.plot(x, row.rate.value, "s", color="C1")
            last.set_ylabel(f"{choice.question['maximise']} win rate\n({row.rate.n} prompts)")
        if row.policy_id == choice.chosen:
            title = f"chosen: {row.title} (grey)"
            for axes in (*panels, last):
                axes.axvline(x, color="0.85", linewidth=6, zorder=0)
    last.set_title(f"bars: {level} intervals, each by itself", loc="left")
    last.set_xlabel(CHOICE_AXES[choice.axis])
    if choice.axis == "β":
        last.set_xscale("log")
        last.minorticks_off()
        last.set_xticks(positions, [f"{x:g}" for x in positions])
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _draw_findings(axes: Axes, choice: Choice, positions: list[float], findings: list[Finding], level: str) -> None:
    """Draw one finding of every policy, filled if the policy is certified."""
    first, bounds = findings[0], [finding.bound for finding in findings]
    axes.vlines(positions, [finding.value for finding in findings], bounds, color="C0")
    axes.plot(positions, bounds, "_", color="C0", ms=12, label=f"lower {level} bound, each by itself")
    for is_certified, fill, name in ((True, "C0", "certified"), (False, "white", "not certified")):
        shown = [index for index, row in enumerate(choice.tested) if row.is_certified == is_certified]
        points = [positions[index] for index in shown], [findings[index].value for index in shown]
        axes.plot(*points, "o", color="C0", markerfacecolor=fill, label=name if shown else None)
    axes.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {first.threshold:g}")
    axes.set_ylabel(f"{first.name.split(' (')[0]}\n({first.n} prompts)")
    axes.legend()
