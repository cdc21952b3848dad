"""The report as one HTML page that needs nothing but itself: no script, font or request from elsewhere."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from sacpo_exp.reporting.cohort_sections import make_cohort_sections
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.reporting.page_data import describe_page
from sacpo_exp.reporting.page_texts import shorten_texts
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.section import Section
from sacpo_exp.reporting.sections import make_sections

#: Bytes that prompts and responses may take, which keeps the page below 12 MB.
TEXTS_AT_MOST: Final = 9_000_000
TEMPLATE: Final = resources.files("sacpo_exp.reporting") / "template"


def write_page(
    scores: Sequence[GroupScores],
    cohorts: Sequence[Cohort],
    lineage: Lineage,
    pictures: Sequence[bytes | None],
    most: int = TEXTS_AT_MOST,
) -> bytes:
    """The page about all groups and cohorts, the same bytes for the same store.

    Args:
        pictures: the figure of every group, then of every cohort, as SVG, for print and where no script runs.
        most: bytes of texts; if there are more, the longest are cut off and say so.
    """
    page = describe_page(scores, cohorts, lineage)
    page["texts"], page["cut"] = shorten_texts(page["texts"], most)
    stills = [(each.group.heading, each.group.provenance, make_sections(each)[:1]) for each in scores]  # win rates
    stills += [(f"Across policies: {each.heading}", each.provenance, make_cohort_sections(each)) for each in cohorts]
    style, script = _read("page.css"), _read("charts.js") + _read("page.js")
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        "style": style,
        "still": "\n".join(_draw_still(*told, picture) for told, picture in zip(stills, pictures, strict=True)),
        "data": write_json(page),
        "script": script,
    }
    filled = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))
    # A lone surrogate, which no UTF-8 can hold, becomes its JSON escape.
    return filled.encode("utf-8", "backslashreplace")


def write_json(value: Mapping[str, Any]) -> str:
    """Compact JSON for inside a script element: `<` is escaped, so that no text can end it or open another."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """NaN and infinity, which JSON does not have, as null; other numbers with six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _read(name: str) -> str:
    return (TEMPLATE / name).read_text("utf-8")


def _source(content: str) -> str:
    """What allows this very style or script, and no other, in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _draw_still(heading: str, provenance: str, sections: Sequence[Section], picture: bytes | None) -> str:
    """Figure and tables without script."""
    parts = [f"<h2>{html.escape(heading)}</h2><p>{html.escape(provenance)}</p>"]
    if picture:
        source = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
        parts.append(f'<img alt="Win rates of every policy; the table has the numbers" src="{source}">')
    return f'<section class="still">{"".join([*parts, *map(_draw_table, sections)])}</section>'


def _draw_table(section: Section) -> str:
    head, *rows = [[html.escape(cell) for cell in row] for row in section.rows]
    table = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{table}</tr></thead><tbody>{lines}</tbody></table></div>'
        f"<p>{html.escape(section.note)}</p>"
    )
