"""The page in a real browser: it loads in time, asks for nothing, and every part of it works."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, open_browser
from made_up import HOSTILE, N_POLICIES, fill_store, read_data
from test_cohorts import judge_seeds
from world import Seeds, answers

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = [pytest.mark.slow, needs_browser]
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., Any]) -> Path:
    world = fill_store(tmp_path_factory.mktemp("browsed"), configure, ["helpful_first", "safety_first"])
    return world.report(bootstrap_rounds=50, max_missing=0.5) / "report.html"


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Any]:
    with opened(page, tmp_path) as driver:
        yield driver


@contextmanager
def opened(page: Path, tmp_path: Path) -> Iterator[Any]:
    """Chromium with the page open at desktop size; at the end nothing was complained about and nothing fetched."""
    driver = open_browser(tmp_path / "profile")
    try:
        resize(driver, DESKTOP)
        emulate(driver, prefers_reduced_motion="reduce")  # a click can't hit what is still scrolling
        driver.get(page.as_uri())
        yield driver
        assert driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        asked = [entry["request"]["url"] for entry in sent if entry["documentURL"].startswith(page.as_uri())]
        assert page.as_uri() in asked
        assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []
        assert driver.execute_script("return window.hacked") is None
    finally:
        driver.quit()


def resize(driver: Any, size: tuple[int, int], height: int | None = None) -> None:
    metrics = {"width": size[0], "height": height or size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def emulate(driver: Any, **features: str) -> None:
    """`media="print"`, or features such as `prefers_color_scheme="dark"`."""
    media = features.pop("media", "")
    listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": listed})


def find(driver: Any, selector: str) -> Any:
    return driver.find_element(By.CSS_SELECTOR, selector)


def find_all(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements(By.CSS_SELECTOR, selector))


def chosen_title(driver: Any) -> str:
    return str(find(driver, "#detail h3").text)


def column(driver: Any, name: str) -> list[float]:
    heads = [head.text.split(" ")[0] for head in find_all(driver, "#table thead th")]
    cells = find_all(driver, f"#table tbody td:nth-child({heads.index(name) + 1})")
    return [float(cell.text.split(" ")[0]) for cell in cells]


def most_alone(some: list[dict[str, Any]], policies: list[dict[str, Any]]) -> dict[str, Any]:
    """The one of some policies whose point no other's lies on: its nearest neighbour is the furthest away."""

    def point(policy: dict[str, Any]) -> list[float]:
        return [policy["estimates"][name][0] for name in ("helpfulness", "safety")]

    return max(some, key=lambda one: min(math.dist(point(one), point(each)) for each in policies if each is not one))


def test_it_loads_within_two_seconds(browser: Any) -> None:
    took = []
    for _ in range(3):  # the machine may be busy with something else
        browser.refresh()
        took.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert 0 < min(took) < 2000
    assert len(find_all(browser, "#figure .point")) == N_POLICIES


def test_a_pointer_or_the_keyboard_shows_a_policy(browser: Any, page: Path) -> None:
    policies = read_data(page)["groups"][0]["policies"]
    at_first = chosen_title(browser)
    pointer = webdriver.ActionChains(browser)
    policy = most_alone([policy for policy in policies if policy["title"] != at_first], policies)
    pointer.move_to_element(find(browser, f"#figure [data-policy='{policies.index(policy)}'] .shape")).perform()
    assert chosen_title(browser) == policy["title"] != at_first
    pointer.move_to_element(find(browser, "h1")).perform()
    assert chosen_title(browser) == at_first
    browser.execute_script("document.querySelector('#figure .point').focus()")
    for place in range(1, 4):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        assert chosen_title(browser) == policies[place]["title"]
    shown = find(browser, "#detail").text
    low, high = policies[3]["estimates"]["safety"][1:3]
    assert f"[{low:.2f}, {high:.2f}]" in shown
    assert policies[3]["train"] in shown
    assert [item.text.split("\n")[0] for item in find_all(browser, "#detail .line li")][:2] == ["nano", "SFT"]
    assert len(find_all(browser, "#figure .front-line")) == 1
    assert len(find_all(browser, "#figure .on-front")) == sum(policy["front"] for policy in policies)
    find(browser, "#front").click()
    assert find_all(browser, "#figure .on-front") == []


def test_a_heading_sorts_the_table(browser: Any) -> None:
    heading = "#table thead th:nth-child(5) button"
    assert find(browser, heading).text.startswith("safety")
    find(browser, heading).send_keys(Keys.ENTER)
    values = column(browser, "safety")
    assert values == sorted(values, reverse=True)
    assert find(browser, "#table th[aria-sort=descending]").text.startswith("safety")
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(browser, "safety") == values[::-1]
    assert len(find_all(browser, "#table th[aria-sort=ascending]")) == 1


def test_responses_side_by_side_with_their_verdicts(browser: Any, page: Path) -> None:
    data = read_data(page)
    group = data["groups"][0]
    Select(find(browser, "#left")).select_by_index(2)
    Select(find(browser, "#right")).select_by_index(5)
    place = next(place for place, entry in enumerate(group["prompts"]) if entry["kind"] == "risky")
    Select(find(browser, "#kind")).select_by_value("risky")
    assert find(browser, "#count").text == "20 of 83 prompts, 212 in all."
    for side, policy in zip(find_all(browser, ".pair:first-child article"), (2, 5), strict=True):
        assert data["texts"][group["answers"][policy]["texts"][place]] == side.find_element(By.CSS_SELECTOR, "p").text
        verdict = group["answers"][policy]["verdicts"]["safety"][place]
        word = verdict if isinstance(verdict, str) else {0: "lost", 0.5: "tied", 1: "won"}[verdict]
        assert f"safety: {word}" in side.text
        assert group["policies"][policy]["title"] in side.text
    find(browser, "#more").click()
    assert len(find_all(browser, ".pair")) == 40
    Select(find(browser, "#category")).select_by_value("weapons")
    wanted = sum(entry["kind"] == "risky" and entry["category"] == "weapons" for entry in group["prompts"])
    assert len(find_all(browser, ".pair")) == wanted
    Select(find(browser, "#which")).select_by_value("failed")
    assert len(find_all(browser, ".pair .failed")) >= len(find_all(browser, ".pair"))


def test_hostile_text_is_only_text(browser: Any, page: Path) -> None:
    data = read_data(page)
    number = data["texts"].index(HOSTILE)
    policy = next(place for place, entry in enumerate(data["groups"][0]["answers"]) if number in entry["texts"])
    Select(find(browser, "#left")).select_by_index(policy)
    find(browser, "#search").send_keys("</script>")
    assert "window.hacked = 1" in find(browser, ".pair article p").text
    assert find_all(browser, "#pairs script, #pairs img") == []


def test_curves_and_categories_follow_their_controls(browser: Any) -> None:
    cards = len(find_all(browser, "#charts .card"))
    assert cards > 5
    find(browser, "#charts svg").send_keys(Keys.ARROW_RIGHT)
    assert find(browser, "#charts .card p").text.startswith("update 1: 0.")
    Select(find(browser, "#metric")).select_by_value("rewards/margins")
    assert len(find_all(browser, "#charts .card")) == cards
    before = find(browser, "#category-bars").text
    Select(find(browser, "#category-criterion")).select_by_value("safety")
    assert find(browser, "#category-bars").text != before
    assert len(find_all(browser, "#category-bars .rate")) == 8
    assert "flip rate" in find(browser, "#health").text


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_nothing_is_wider_than_the_screen(browser: Any, tmp_path: Path, size: tuple[int, int], scheme: str) -> None:
    emulate(browser, prefers_color_scheme=scheme)
    resize(browser, size)
    browser.refresh()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    unnamed = "return [...document.querySelectorAll('select, input')].filter((e) => !e.labels.length).length"
    assert browser.execute_script(unnamed) == 0
    resize(browser, size, 3000)
    picture = tmp_path / f"{'desktop' if size == DESKTOP else 'phone'}.png"
    assert browser.save_screenshot(str(picture))
    print(picture)  # noqa: T201


def test_paper_and_browsers_without_script_get_the_static_figure(browser: Any) -> None:
    assert not find(browser, ".still img").is_displayed()
    emulate(browser, media="print")
    assert find(browser, ".still img").is_displayed()
    assert not find(browser, "#figure").is_displayed()
    emulate(browser)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    assert find(browser, ".still img").is_displayed()
    assert find(browser, ".still img").size["width"] > 500
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_means_over_seeds_stand_beside_the_points_of_their_seeds(
    browser: Any, tmp_path: Path, configure: Callable[..., Any]
) -> None:
    assert "P-SACPO at q minus training for λ_q" in find(browser, "#across-tables").text  # 0.05/0.5 is another β of it
    assert not find(browser, "#means").is_displayed()  # one seed only
    world = Seeds(tmp_path / "outputs", configure)
    judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0])
    world.judge_policy(world.baseline, answers([0.5] * 4, [0.5] * 4), prompts_id="f00d" * 16)
    (tmp_path / "other").mkdir()
    with opened(world.report() / "report.html", tmp_path / "other") as driver:
        assert len(find_all(driver, "#means-figure .point")) == 2
        assert len(find_all(driver, "#means-figure .seed")) == 2
        assert "mean of 2 seeds: helpfulness 0.63 [" in find(driver, "#means-detail").text
        chosen = chosen_title(driver)
        driver.execute_script("document.querySelector('#means-figure .point').focus()")
        assert find(driver, "#means-detail").text.startswith("SFT (baseline), mean of 2 seeds")
        assert chosen_title(driver) == chosen  # a mean is none of the policies of this group
        assert "Win rates over seeds" in find(driver, "#across-tables").text
        find(driver, "[role=tab]:nth-child(2)").click()
        assert len(find_all(driver, "#means-figure .seed")) == 2  # the other seed's group tells the same
        find(driver, "[role=tab]:nth-child(3)").click()
        assert not find(driver, "#across").is_displayed()
        assert not find(driver, "#to-across").is_displayed()
