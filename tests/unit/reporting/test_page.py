"""The page of a report: everything in one file, every text as text, of any size."""

import html
import itertools
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from made_up import HOSTILE, N_POLICIES, N_PROMPTS, read_data
from world import EVEN, World, answers

from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import make_plan, policy_of_spec
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.lineage import describe_groups, find_overrides, write_command
from sacpo_exp.reporting.page import write_json
from sacpo_exp.store import Store


class Page(HTMLParser):
    """Collects elements with their attributes, and everything that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        links = [attributes.get(name, "#") for name in ("src", "href", "srcset", "action", "data", "poster")]
        self.fetched += [link for link in links if not link.startswith(("#", "data:"))]

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.elements)


def test_nothing_is_fetched_and_no_text_becomes_markup(large: Path) -> None:
    text = large.read_text("utf-8")
    page = Page(text)
    assert page.fetched == []
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert not re.search(r"@import|url\(|innerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert HOSTILE in read_data(large)["texts"]
    rule = next(found["content"] for tag, found in page.elements if "http-equiv" in found)
    assert rule.startswith("default-src 'none'; ")
    assert rule.count("sha256-") == 2
    assert "unsafe" not in rule


def test_a_point_stands_where_its_rates_are(large: Path) -> None:
    pattern = r'data-policy="\d+"><title>[^<]*; helpfulness ([\d.]+) [^<]*</title><circle cx="([\d.]+)"'
    points = sorted((float(rate), float(x)) for rate, x in re.findall(pattern, large.read_text("utf-8")))
    assert len(points) == N_POLICIES - 1
    assert all(x < other + 2 for (_, x), (_, other) in itertools.pairwise(points))  # rates have two decimals


def test_a_large_page_has_a_point_a_row_and_a_card_with_lineage_and_commands_of_every_policy(large: Path) -> None:
    text = large.read_text("utf-8")
    page = Page(text)
    assert page.count("a", **{"class": "point"}) == N_POLICIES - 1  # the baseline is a cross
    assert page.count("article") == N_POLICIES
    assert page.count("tr", **{"data-policy": "3"}) == 2  # win rates and behaviour
    cards = [html.unescape(card) for card in text.split("<article")[1:]]
    (merged,) = [card for card in cards if "β=0.05 q=0.25" in card.split("</h3>")[0]]
    assert len(re.findall("<li>", merged)) == 5
    assert re.findall(r"<small>(\w+)", merged) == ["model", "stage", "stage", "stage", "merge"]
    assert ">sacpo train model=nano order=helpful_first beta=0.05 merge_ratio=0.25<" in merged
    assert " policies=all judge=openai prompts=sacpo<" in merged
    data = read_data(large)
    (group,) = data["groups"]
    stage = data["curves"][group["stages"][0]]
    assert stage["completions"] == [[150, "Who?", HOSTILE]]
    assert stage["metrics"].keys() == {"loss", "rewards/margins", "eval_loss"}
    assert stage["metrics"]["loss"][-1][0] == 300
    assert (len(group["policies"]), len(group["prompts"])) == (N_POLICIES, N_PROMPTS)
    responses = [data["texts"][number] for policy in group["policies"] for number in policy["texts"]]
    assert len(responses) == N_POLICIES * N_PROMPTS
    assert data["cut"] is None
    assert large.stat().st_size < 12_000_000


def test_any_text_survives_inside_a_script_element() -> None:
    texts = ["</script>", "<!--", "\u2028", "a\ud83d", '"\\', "{{script}}"]
    written = write_json({"texts": texts, "nothing": float("nan")}).encode("utf-8", "backslashreplace").decode()
    assert "<" not in written
    assert json.loads(written) == {"texts": texts, "nothing": None}


def test_too_much_text_is_cut_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.judgments(world.baseline, answers([0.5] * 4, [0.5] * 4, text="long " * 100))
    groups = collect_groups(world.store, None, None)
    described = describe_groups(groups, {}, 1600)
    assert described["cut"] == 100  # 16 texts: eight prompts, which are shorter, and eight responses
    assert "Question 0?" in described["texts"]
    assert f"{'long ' * 20} … [402 more]" in described["texts"]
    assert describe_groups(groups, {}, 10_000)["cut"] is None


def test_groups_are_kept_apart_and_a_policy_without_rates_has_no_point(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.judgments(world.baseline, EVEN)
    lost = world.elsewhere("<b>lost</b>")
    world.judgments(lost, answers([None] * 4, [None] * 4))
    world.judgments(lost, answers([1] * 4, [1] * 4), judge="other", judge_id="other-1")
    path = world.report() / "report.html"
    assert [len(group["policies"]) for group in read_data(path)["groups"]] == [2, 1]
    page = Page(path.read_text("utf-8"))
    assert (page.count("section", **{"class": "part"}), page.count("b")) == (2, 0)
    assert page.count("a", **{"class": "point"}) == 1  # in the second group
    assert "The store does not say how this policy was made." in path.read_text("utf-8")


def test_stored_overrides_plan_the_ids(cli: Any, configure: Any, tmp_path: Path) -> None:
    overrides = ["model=tiny", "dataset.max_rows=24", "merge_ratio=0.5"]
    config, store = configure(*overrides), Store(tmp_path / "outputs" / "store")
    plan = make_plan(config, replace(take_fingerprints(config), overrides=tuple(overrides)))
    for spec in plan.training():
        counts = {"train": {"examples": 24, "labels": {}}} if spec.kind == "dataset" else {}
        store.get_or_build(spec, lambda _, counts=counts: counts)
    lineage = {manifest.id: (folder, manifest) for folder, manifest in store.manifests()}
    for name in ("baseline", "first", "second", "merged"):
        assert find_overrides(policy_of_spec(plan.policies[name]), lineage) == overrides
    assert find_overrides(policy_of_spec(plan.model), lineage) is None  # nothing was trained
    done = cli(*shlex.split(write_command("train", [*overrides, "dry_run=true"]))[1:])
    assert f"stored  merge      {plan.policies['merged'].id}" in done.stdout
    assert "0 to make" in done.stdout
    odd = ["model.chat_template='it\\'s {{ messages }}'", "dataset.fields={prompt:a b}"]
    assert shlex.split(write_command("train", odd))[2:] == odd
