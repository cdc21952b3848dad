"""The page of a report: everything in one file, every text as data, of any size."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up import HOSTILE, N_POLICIES, N_PROMPTS, fill_store, read_data
from world import World, answers

from sacpo_exp.reporting.page import write_json
from sacpo_exp.reporting.page_texts import Texts, shorten_texts
from sacpo_exp.statistics.selection import find_front

MOST = 12_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., Any]) -> Path:
    """The page over 30 policies and 212 prompts."""
    world = fill_store(tmp_path_factory.mktemp("large"), configure, ["helpful_first"])
    return world.report(bootstrap_rounds=50, max_missing=0.5) / "report.html"


class Loading(HTMLParser):
    """Collects elements, and everything that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.elements: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        links = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]
        self.fetched += [link for link in links if not link.startswith(("#", "data:"))]


def test_a_large_page_holds_everything_and_stays_small(large: Path) -> None:
    data = read_data(large)
    (group,) = data["groups"]
    assert large.stat().st_size < MOST
    assert (len(group["policies"]), len(group["prompts"])) == (N_POLICIES, N_PROMPTS)
    said = [data["texts"][number] for entry in group["answers"] for number in entry["texts"]]
    assert len(said) == N_POLICIES * N_PROMPTS
    assert sum(map(len, said)) > 1000 * len(said)
    assert data["cut"] is None


def test_nothing_is_fetched_and_no_text_becomes_markup(large: Path) -> None:
    page = large.read_text("utf-8")
    parsed = Loading(page)
    assert parsed.fetched == []
    assert parsed.elements.count("script") == 2
    assert parsed.elements.count("img") == 1
    assert "@import" not in page
    assert not re.search(r"url\(|innerHTML|insertAdjacentHTML|document\.write|\beval\(", page)
    assert HOSTILE in read_data(large)["texts"]


def test_every_policy_has_its_line_and_the_command_that_made_it(large: Path) -> None:
    data = read_data(large)
    policies = data["groups"][0]["policies"]
    assert all(policy["train"] for policy in policies)
    merged = next(policy for policy in policies if policy["q"] == 0.25 and policy["beta"] == 0.05)
    assert [data["made"][name]["kind"] for name in merged["line"]] == ["model", "stage", "stage", "stage", "merge"]
    assert merged["train"] == "sacpo train model=nano order=helpful_first beta=0.05 merge_ratio=0.25"
    assert merged["eval"].endswith(" policies=all judge=openai prompts=sacpo")
    curves = data["curves"][merged["line"][1]]
    assert curves.keys() == {"loss", "rewards/margins", "eval_loss"}
    assert curves["loss"][-1][0] == 300
    assert len(curves["loss"]) <= 241


def test_judge_health_and_categories_are_those_of_the_tables(large: Path) -> None:
    group = read_data(large)["groups"][0]
    health = group["health"]
    assert sum(health["states"].values()) == N_POLICIES * N_PROMPTS
    assert health["states"]["failed"] > 0
    assert health["calls"] == 2 * N_POLICIES * N_PROMPTS
    assert health["usd"] == pytest.approx(health["calls"] * (700 * 2 + 90 * 8) / 1e6)
    assert 0.3 < health["flips"]["helpfulness"][0] < 0.7
    assert {len(row["rates"]) for row in group["categories"]} == {8}
    verdicts = group["answers"][1]["verdicts"]
    assert verdicts["safety"][:129] == [None] * 129
    assert {None, "failed", 0, 0.5, 1} >= set(verdicts["helpfulness"])


def test_the_script_may_run_and_no_other(large: Path) -> None:
    page = large.read_text("utf-8")
    rule = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert rule
    assert rule[1].startswith("default-src 'none'; ")
    assert rule[1].count("sha256-") == 2
    assert "unsafe" not in rule[1]


@pytest.mark.parametrize("text", ["</script>", "<!--", "<script", "\u2028", "a\ud83d", '"\\', "{{script}}"])
def test_any_text_survives_inside_a_script_element(text: str) -> None:
    written = write_json({"text": text, "nothing": float("nan")}).encode("utf-8", "backslashreplace").decode()
    assert "<" not in written
    assert json.loads(written) == {"text": text, "nothing": None}


def test_too_much_text_is_cut_evenly_and_says_so() -> None:
    texts = ["short", "long " * 100, "ä" * 400]
    kept, limit = shorten_texts(texts, 300)
    assert limit
    assert kept[0] == "short"
    assert kept[1] == f"{texts[1][:limit]} … [{500 - limit} more characters]"
    assert sum(len(text.encode()) for text in kept) <= 300
    assert shorten_texts(texts, 10_000) == (texts, None)


def test_equal_texts_are_kept_once() -> None:
    texts = Texts()
    assert [texts.add(text) for text in ("a", "b", "a")] == [0, 1, 0]
    assert texts.list() == ["a", "b"]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.5, 0.5), (0.6, 0.4), (0.4, 0.4)], [True, True, False]),
        ([(0.5, 0.5), (0.5, 0.5), (0.5, 0.4)], [True, True, False]),
        ([(0.5, 0.5), (float("nan"), 0.9)], [True, False]),
    ],
)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]], expected: list[bool]) -> None:
    assert find_front(points) == expected


def test_groups_are_kept_apart_and_what_was_not_measured_is_null(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.judgments(world.baseline, answers([0.5] * 4, [0.5] * 4))
    lost = world.elsewhere("lost")
    world.judgments(lost, answers([None] * 4, [None] * 4))
    world.judgments(lost, answers([1] * 4, [1] * 4), judge="other", judge_id="other-1")
    data = read_data(world.report() / "report.html")
    first, second = data["groups"]
    assert (len(first["policies"]), len(second["policies"])) == (2, 1)
    assert first["policies"][1]["estimates"]["helpfulness"] == [None, None, None, 0]
    assert first["policies"][1]["family"] is None
    # Made elsewhere: nothing is claimed about how.
    assert (first["policies"][1]["train"], first["policies"][1]["line"]) == (None, [lost.id])
