"""The report as one HTML page that loads nothing else: no script, font or request from elsewhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from sacpo_exp.reporting.choices import StoredChoice, describe_others
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.figures import find_front_points
from sacpo_exp.reporting.lineage import Lineage, describe_groups, find_overrides, list_steps, write_command
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.reporting.sections import BEHAVIOUR, Part
from sacpo_exp.reporting.tables import Section, format_estimate, format_number

#: Characters that prompts and responses may take, which keeps the page below 12 MB.
TEXTS_AT_MOST: Final = 9_000_000
TEMPLATE: Final = resources.files("sacpo_exp.reporting") / "template"
#: Files of a part that the page shows.
PICTURES: Final = ("trade_off.svg", "seeds.svg", "preferences.svg")
DEFAULTS: Final = ("judge=scorer", "prompts=demo")  # not part of a command
MARKER: Final = re.compile(r'<g id="policy-(\d+)">.*?<use [^>]*?x="([\d.]+)" y="([\d.]+)"', re.DOTALL)


def write_page(parts: Sequence[Part], lineage: Lineage) -> bytes:
    """Return the page about all parts, the same bytes for the same store."""
    elements, links = [_make_part(part, lineage) for part in parts], []
    for number, element in enumerate(elements, start=1):
        element.set("id", f"part-{number}")
        links.append(make("a", str(element.findtext("h2")), href=f"#part-{number}"))
    groups = [part.scores.group for part in parts if part.scores and not part.scores.is_average]
    page, style, script = ((TEMPLATE / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    contents = {
        "policy": f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        "style": style,
        "links": _write(links),
        "parts": _write(elements),
        "data": write_json(describe_groups(groups, lineage, TEXTS_AT_MOST)),
        "script": script,
    }
    filled = re.sub(r"\{\{(\w+)\}\}", lambda match: contents[match[1]], page)
    # UTF-8 has no lone surrogates; in JSON this is their escape.
    return filled.encode("utf-8", "backslashreplace")


def write_json(value: Mapping[str, Any]) -> str:
    """Return compact JSON for a script element: NaN is null, and `<` is escaped, so that no text can end it."""
    plain = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def make(tag: str, *content: Element | str, **attributes: str) -> Element:
    """Return an element with text, which comes first and is escaped when the element is written, and other elements.

    `class_` and `data_policy` are the attributes `class` and `data-policy`.
    """
    element = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    element.text = "".join(part for part in content if isinstance(part, str))
    element.extend(part for part in content if not isinstance(part, str))
    return element


def _write(elements: Iterable[Element]) -> str:
    return "\n".join(ElementTree.tostring(element, encoding="unicode", method="html") for element in elements)


def _source(content: str) -> str:
    """Return what allows this style or script, and no other, in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _make_part(part: Part, lineage: Lineage) -> Element:
    """Return figure, policies, choices and tables."""
    scores, content = part.scores, list[Element]()
    picture = next((part.files[name] for name in PICTURES if name in part.files), None)
    if scores:
        front = [] if scores.is_average else find_front_points(scores)
        cards = []
        for index, row in enumerate(scores.policies):
            badges = ["baseline"] if row.policy.is_baseline and not row.seeds else []
            badges += ["Pareto front"] if tuple(row.rate(name).value for name in scores.axes) in front else []
            further = [_describe_seeds(row, scores.axes)] if row.seeds else _describe_origin(row.policy, lineage)
            cards.append(_card(index, row, badges, further))
        figure = make("figure", *([_figure(scores, picture)] if picture else []), class_="scroll")
        content.append(make("div", figure, make("div", *cards, class_="cards"), class_="split"))
        content += map(describe_choice, scores.group.choices)
    elif picture:
        content.append(make("img", src=_embed(picture), alt="Accuracy on held-out pairs", class_="picture"))
    content += [_table(section, scores) for section in part.sections]
    return make("section", make("h2", part.heading), make("p", part.provenance, class_="note"), *content, class_="part")


def describe_choice(stored: StoredChoice) -> Element:
    """Return the sentence of a choice, what was asked, and the figure."""
    asked = ", ".join(f"{key}={value}" for key, value in stored.choice.question.items() if value)
    lines = [make("p", line, class_="note") for line in (*describe_others(stored.others), f"Question: {asked}")]
    image = make("img", src=_embed(stored.picture), alt="Tested policies with their bounds", class_="picture")
    return make("article", make("h3", stored.choice.sentence), *lines, image, class_="choice")


def _embed(picture: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"


def _figure(scores: GroupScores, picture: bytes) -> Element:
    """Return the SVG picture with a link over each point."""
    text = picture.decode()
    ((width, height),) = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    svg = make("svg", viewBox=f"0 0 {width} {height}", role="group", aria_label="Win rates, one point per policy")
    svg.append(make("image", href=_embed(picture), width=width, height=height, class_="picture"))
    for index, x, y in MARKER.findall(text):
        row = scores.policies[int(index)]
        title = "; ".join([row.policy.title, *(f"{name} {format_estimate(row.rate(name))}" for name in scores.axes)])
        shape = make("circle", cx=x, cy=y, r="8")
        svg.append(make("a", make("title", title), shape, href="#", class_="point", data_policy=index))
    return svg


def _card(index: int, row: PolicyScores, badges: Sequence[str], further: Sequence[Element]) -> Element:
    """Return title and measurements of a policy; the page shows the card of one policy at a time."""
    estimates = {each.name: row.rate(each.name) for each in row.policy.criteria}
    estimates |= {f"{name}, no ties": row.estimates[f"{name}_without_ties"] for name in tuple(estimates)}
    estimates |= {name: row.estimates[column] for name, column in BEHAVIOUR.items()}
    values = {name: f"{format_estimate(each)}, n {each.n}" for name, each in estimates.items() if each.n}
    values |= {"tokens": format_number(row.tokens, ".1f"), "without verdict": str(row.missing)}
    terms = [make(*entry) for name, value in values.items() for entry in (("dt", name), ("dd", value))]
    head = [make("h3", row.policy.title), *(make("span", name, class_="badge") for name in badges)]
    return make("article", *head, make("dl", *terms), *further, class_="card", data_policy=str(index))


def _describe_origin(policy: Evaluation, lineage: Lineage) -> list[Element]:
    """Return the lineage of a policy, and the commands that reproduce it."""
    steps = [make("li", name, make("small", text)) for name, text in list_steps(policy.policy, lineage)]
    overrides = find_overrides(policy.policy, lineage)
    commands = [make("p", "The store does not say how this policy was made.", class_="note")]
    if overrides is not None:
        names = [f"{key}={policy.labels[key]}" for key in ("judge", "prompts")]
        named = [*overrides, "policies=all", *(name for name in names if name not in DEFAULTS)]
        commands = [make("pre", text) for text in (write_command("train", overrides), write_command("eval", named))]
    head = [make("h4", "Lineage"), make("ol", *steps), make("h4", "Commands that reproduce it")]
    return [*head, *commands, make("p", policy.id, class_="note")]


def _describe_seeds(row: PolicyScores, axes: Sequence[str]) -> Element:
    """Return the rates of the single seeds of a mean."""
    seeds = []
    for seed in row.seeds:
        rates = " / ".join(format_number(seed.rate(name).value, ".2f") for name in axes)
        seeds.append(f"{seed.policy.policy.seed}: {rates}")
    return make("p", f"Mean of {len(row.seeds)} seeds. By seed: {', '.join(seeds)}.", class_="note")


def _table(section: Section, scores: GroupScores | None) -> Element:
    """Return a table; if its rows are the policies in the order of the scores, each is linked to its card."""
    head, *rows = section.rows
    names = [row.policy.name for row in scores.policies] if scores else []
    is_linked = [row[0] for row in rows] == names

    def make_row(tag: str, cells: Sequence[str], **attributes: str) -> Element:
        words = [make(tag, cell, class_="words") for cell in cells[: section.left]]
        return make("tr", *words, *(make(tag, cell) for cell in cells[section.left :]), **attributes)

    links = [{"data_policy": str(index), "tabindex": "0"} if is_linked else {} for index in range(len(rows))]
    lines = [make_row("td", row, **link) for row, link in zip(rows, links, strict=True)]
    table = make("table", make("thead", make_row("th", head)), make("tbody", *lines))
    attributes = {"open": "open"} if is_linked else {}
    body = make("div", table, class_="scroll", tabindex="0")
    return make("details", make("summary", section.title), body, make("p", section.note, class_="note"), **attributes)
