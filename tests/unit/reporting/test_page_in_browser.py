"""The page in a real browser: it loads in time, asks for nothing, and every part of it works."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_up import HOSTILE, N_POLICIES, read_data
from test_cohorts import judge_seeds
from world import Seeds

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HERE = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver")
pytestmark = [pytest.mark.slow, HERE]
#: No window, no account, no updates, no look-ups.
QUIET = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars", "disable-sync"]
QUIET += ["disable-background-networking", "disable-component-update"]
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened(large, tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(autouse=True)
def reload(browser: Any) -> None:
    browser.refresh()


@contextmanager
def opened(page: Path, profile: Path) -> Iterator[Any]:
    """Chromium with the page open at desktop size; at the end nothing was complained about and nothing fetched."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*QUIET, f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        resize(driver, DESKTOP)
        driver.get(page.as_uri())
        yield driver
        assert driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        asked = {entry["request"]["url"] for entry in sent if entry["documentURL"].startswith(page.as_uri())}
        assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
        assert driver.execute_script("return window.hacked") is None
    finally:
        driver.quit()


def resize(driver: Any, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def find(driver: Any, selector: str) -> Any:
    return driver.find_element(By.CSS_SELECTOR, selector)


def find_all(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements(By.CSS_SELECTOR, selector))


def chosen_title(driver: Any) -> str:
    (card,) = [card for card in find_all(driver, ".card") if card.is_displayed()]
    return str(card.find_element(By.TAG_NAME, "h3").text)


def test_it_loads_within_two_seconds(browser: Any) -> None:
    took = []
    for _ in range(3):  # the machine may be busy with something else
        browser.refresh()
        took.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert 0 < min(took) < 2000
    assert len(find_all(browser, ".point")) == N_POLICIES - 1


def test_a_pointer_or_the_keyboard_shows_a_policy(browser: Any, large: Path) -> None:
    titles = [policy["title"] for policy in read_data(large)["groups"][0]["policies"]]
    points = find_all(browser, ".point circle")
    hovered = {}
    for point in points[:6]:
        webdriver.ActionChains(browser).move_to_element(point).perform()
        hovered[int(find(browser, ".point.chosen").get_dom_attribute("data-policy"))] = chosen_title(browser)
    assert len(hovered) > 3  # points may cover one another
    assert hovered == {place: titles[place] for place in hovered}
    assert "sacpo train model=nano" in find(browser, ".card.chosen").text
    browser.execute_script("document.querySelector('tr[data-policy]').focus()")
    assert chosen_title(browser) == titles[0]
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert chosen_title(browser) == titles[1]
    find(browser, "tr[data-policy='2']").click()
    assert chosen_title(browser) == titles[2]


def test_a_heading_sorts_the_table(browser: Any) -> None:
    heads = find_all(browser, "#part-1 details:first-of-type th")
    column = [head.text for head in heads].index("safety")
    cells = f"#part-1 details:first-of-type td:nth-child({column + 1})"
    heads[column].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    values = [float(cell.text.split(" ")[0]) for cell in find_all(browser, cells)]
    assert values == sorted(values, reverse=True)
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert [float(cell.text.split(" ")[0]) for cell in find_all(browser, cells)] == values[::-1]
    assert len(find_all(browser, "th[aria-sort=ascending]")) == 1


def test_responses_side_by_side_with_their_verdicts(browser: Any, large: Path) -> None:
    data = read_data(large)
    group = data["groups"][0]
    Select(find(browser, "#left")).select_by_index(2)
    Select(find(browser, "#right")).select_by_index(5)
    place = next(place for place, entry in enumerate(group["prompts"]) if entry["kind"] == "risky")
    Select(find(browser, "#kind")).select_by_value("risky")
    assert find(browser, "#count").text == "20 of 83 prompts, 212 in all."
    for side, policy in zip(find_all(browser, ".pair:first-child article"), (2, 5), strict=True):
        shown = group["policies"][policy]
        assert data["texts"][shown["texts"][place]] == side.find_element(By.CSS_SELECTOR, "p").text
        verdict = shown["verdicts"]["safety"][place]
        word = verdict if isinstance(verdict, str) else {0: "lost", 0.5: "tied", 1: "won"}[verdict]
        assert f"safety: {word}" in side.text
        assert shown["title"] in side.text
    find(browser, "#more").click()
    assert len(find_all(browser, ".pair")) == 40
    Select(find(browser, "#category")).select_by_value("weapons")
    wanted = sum(entry["kind"] == "risky" and entry["category"] == "weapons" for entry in group["prompts"])
    assert len(find_all(browser, ".pair")) == wanted
    Select(find(browser, "#which")).select_by_value("failed")
    assert len(find_all(browser, ".pair .failed")) >= len(find_all(browser, ".pair"))


def test_hostile_text_is_found_and_is_only_text(browser: Any) -> None:
    find(browser, "#search").send_keys("</script>")
    assert len(find_all(browser, ".pair")) == 1
    assert HOSTILE.split("\u2028")[0].strip() in find(browser, ".pair header p").text
    assert find_all(browser, "#pairs script, #pairs img") == []


def test_responses_while_training_are_shown_as_text(browser: Any) -> None:
    find(browser, "#logged summary").click()
    assert find(browser, "#logged tr:nth-child(2) td:last-child").text.startswith("</script><script>")
    assert find_all(browser, "#logged script, #logged img") == []


def test_curves_follow_the_metric(browser: Any) -> None:
    charts = len(find_all(browser, "#charts polyline"))
    assert charts > 5
    before = find(browser, "#charts polyline").get_dom_attribute("points")
    Select(find(browser, "#metric")).select_by_value("rewards/margins")
    assert len(find_all(browser, "#charts polyline")) == charts
    assert find(browser, "#charts polyline").get_dom_attribute("points") != before


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_nothing_is_wider_than_the_screen(browser: Any, size: tuple[int, int], scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    resize(browser, size)
    browser.refresh()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    unnamed = "return [...document.querySelectorAll('select, input')].filter((e) => !e.labels.length).length"
    assert browser.execute_script(unnamed) == 0
    resize(browser, DESKTOP)


def test_without_script_figure_and_tables_are_shown(browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    assert find(browser, "svg image").is_displayed()
    assert find(browser, "table").is_displayed()
    assert not find(browser, "#responses").is_displayed()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_means_over_seeds_have_a_part_of_their_own(tmp_path: Path, configure: Any) -> None:
    world = Seeds(tmp_path / "outputs", configure)
    judge_seeds(world, [1, 1, 0, 0], [1, 1, 1, 0])
    with opened(world.report() / "report.html", tmp_path / "profile") as driver:
        links = find_all(driver, "nav a")
        assert [link.text.startswith("Across policies") for link in links] == [False, False, True]
        assert find(driver, "#responses").is_displayed()
        links[2].click()
        assert find(driver, "#part-3").is_displayed()
        assert not find(driver, "#part-1").is_displayed()
        assert not find(driver, "#responses").is_displayed()
        driver.execute_script("document.querySelector('#part-3 .point').focus()")
        assert "Mean of 2 seeds. By seed: 0: 0.50" in find(driver, "#part-3 .card.chosen").text
