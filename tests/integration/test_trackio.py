"""trackio as it is: its dashboard in a browser, its server killed, and what a report tells it and MLflow."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, open_browser
from tracked_commands import ONE_STAGE, install, output_of, query, start

pytestmark = pytest.mark.slow

Dashboard = Callable[[Path], tuple[str, "subprocess.Popen[str]"]]
COLUMNS = {"policy", "beta", "order", "objective", "helpfulness_win_rate", "safety_win_rate_high"}
#: Hues of what is drawn in the page's charts, in sixths of the circle; axes and words are grey.
HUES = """return [...new Set([...document.querySelectorAll('canvas')].flatMap(canvas => {
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data, count = {};
    for (let at = 0; at < pixels.length; at += 4) {
        const [r, g, b] = pixels.slice(at, at + 3), most = Math.max(r, g, b), span = most - Math.min(r, g, b);
        if (pixels[at + 3] < 255 || span < 40) continue;
        const hue = most === r ? (g - b) / span + 6 : most === g ? (b - r) / span + 2 : (r - g) / span + 4;
        count[Math.floor(hue % 6)] = (count[Math.floor(hue % 6)] || 0) + 1;
    }
    return Object.keys(count).filter(hue => count[hue] > 50);
}))]"""
SHORT = [*ONE_STAGE, "stages.helpfulness.num_train_epochs=20"]  # 60 updates
CURVES = [f"stages.{stage}.num_train_epochs=8" for stage in ("sft", "helpfulness")]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mlflow = ("mlflow-skinny==3.17.2", "sqlalchemy>=2.0", "alembic>=1.15")
    return install(tmp_path_factory.mktemp("trackio"), "trackio==0.43.0", *mlflow)


@pytest.fixture(scope="module")
def tracked(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a training of two stages with trackio, evaluated."""
    outputs = tmp_path_factory.mktemp("tracked")
    output = output_of(start(outputs, *CURVES, "order=helpful_only", "tracker=trackio", packages=packages))
    assert output.count("trackio show") == 1
    output_of(start(outputs, *CURVES, "order=helpful_only", "policies=all", command="eval"))
    return outputs


@pytest.fixture
def dashboard(packages: Path) -> Iterator[Dashboard]:
    """`dashboard(folder)` starts `trackio show`; gives the address with the right to write, and the process."""
    started = []

    def show(folder: Path) -> tuple[str, "subprocess.Popen[str]"]:
        variables = {
            "PYTHONPATH": str(packages),
            "TRACKIO_DIR": str(folder),
            "BROWSER": "true",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "trackio.cli", "show", "--project", "sacpo_exp"]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+\S*write_token=[\w-]+", line):
                return found.group(), process
        raise AssertionError("the dashboard did not start")

    yield show
    for process in started:
        process.kill()
        process.wait()


def stages(outputs: Path) -> list[str]:
    return sorted(path.name for path in (outputs / "store" / "stage").iterdir())


def losses(folder: Path) -> list[int]:
    """Updates whose loss is in a folder of trackio."""
    rows = [
        json.loads(str(metrics))
        for (metrics,) in query(folder / "sacpo_exp.db", "SELECT CAST(metrics AS TEXT) FROM metrics")
    ]
    return sorted(row["train/global_step"] for row in rows if "train/loss" in row)


def test_it_has_both_stages_and_no_path_of_the_machine(tracked: Path, packages: Path) -> None:
    folder = tracked / "trackio"
    environment = os.environ | {"PYTHONPATH": str(packages), "TRACKIO_DIR": str(folder)}
    listing = [sys.executable, "-m", "trackio.cli", "list", "runs", "--project", "sacpo_exp"]
    listed = subprocess.run(listing, env=environment, capture_output=True, text=True, check=True).stdout
    assert sorted(line.split("- ")[1] for line in listed.splitlines() if "- " in line) == stages(tracked)
    assert str(tracked).encode() not in (folder / "sacpo_exp.db").read_bytes()


@needs_browser
def test_the_dashboard_shows_the_curves_of_two_runs(tracked: Path, dashboard: Dashboard, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    address, _ = dashboard(tracked / "trackio")
    driver = open_browser(tmp_path / "profile")
    try:
        driver.set_window_size(1400, 1000)
        driver.get(address)
        wait = WebDriverWait(driver, 120)
        wait.until(lambda _: all(run in driver.find_element("tag name", "body").text for run in stages(tracked)))
        driver.find_element("css selector", "input[placeholder*=loss]").send_keys("^train/(loss|learning_rate)$")
        wait.until(lambda _: len(driver.find_elements("tag name", "canvas")) == 2)
        wait.until(lambda _: len(driver.execute_script(HUES)) >= 2)
        assert len(stages(tracked)) == 2
        picture = tmp_path / "trackio.png"
        assert driver.save_screenshot(str(picture))
        print(picture)  # noqa: T201
    finally:
        driver.quit()


def test_a_dashboard_that_dies_takes_nothing_with_it(packages: Path, dashboard: Dashboard, tmp_path: Path) -> None:
    _, process = dashboard(tmp_path / "trackio")
    run = start(tmp_path, *SHORT, "tracker=trackio", packages=packages)
    wait_until(lambda: len(losses(tmp_path / "trackio")) > 5, run)
    process.kill()
    assert "finished" in output_of(run)
    assert losses(tmp_path / "trackio") == list(range(1, 61))


def test_a_server_that_dies_leaves_the_rest_here(packages: Path, dashboard: Dashboard, tmp_path: Path) -> None:
    """A server of one's own, named by TRACKIO_SERVER_URL."""
    there, here = tmp_path / "there", tmp_path / "here"
    address, process = dashboard(there)
    run = start(here, *SHORT, "tracker=trackio", packages=packages, TRACKIO_SERVER_URL=address)
    wait_until(lambda: len(losses(there)) > 5, run)
    process.kill()
    started = time.monotonic()
    assert "finished" in output_of(run)
    assert time.monotonic() - started < 120
    sent, kept = losses(there), losses(here / "trackio")
    assert 5 < len(sent) < 60
    assert {*sent, *kept} == set(range(1, 61))


def wait_until(found: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    for _ in range(6000):
        if found():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("nothing appeared")


def test_a_report_tells_trackio_its_table_and_its_figure(tracked: Path, packages: Path) -> None:
    output_of(start(tracked, "tracker=trackio", "bootstrap_rounds=100", command="report", packages=packages))
    with closing(sqlite3.connect(tracked / "trackio" / "sacpo_exp.db")) as connection:
        rows = connection.execute("SELECT metrics FROM metrics WHERE run_name LIKE 'report-%'").fetchall()
    logged: dict[str, Any] = {}
    for (metrics,) in rows:
        logged |= json.loads(metrics)
    check_rows(logged["policies"]["_value"])
    figure = tracked / "trackio" / "media" / logged["trade_off"]["file_path"]
    assert figure.read_bytes() == (tracked / "report" / "trade_off.png").read_bytes()


def test_a_report_tells_mlflow_its_table_and_its_figure(tracked: Path, packages: Path) -> None:
    output_of(start(tracked, "tracker=mlflow", "bootstrap_rounds=100", command="report", packages=packages))
    ((name, status, place),) = query(tracked / "mlflow.db", "SELECT name, status, artifact_uri FROM runs")
    assert str(name).startswith("report-")
    assert status == "FINISHED"
    artifacts = Path(str(place).removeprefix("file://"))
    table = json.loads((artifacts / "policies.json").read_text("utf-8"))
    check_rows([dict(zip(table["columns"], row, strict=True)) for row in table["data"]])
    assert (artifacts / "trade_off.png").read_bytes() == (tracked / "report" / "trade_off.png").read_bytes()


def check_rows(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 2
    assert rows[0].keys() >= COLUMNS
    assert [row["losses"] for row in rows] == [None, "dpo"]
