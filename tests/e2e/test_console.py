"""The console in a real browser: what it shows, what is done with it, and what it keeps from happening."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.by_hand import running
from tests.e2e.fleet import WITHIN_S, Fleet

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromium-driver are not installed"),
]

VIEWS = ("fleet", "functions", "functions/web", "calls", "logs/web", "events")
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
SOURCE = f"""
import os

def handler(event, context):
    print("saw", event.get("say"))
    if event.get("fail") and not os.path.exists(event["fail"]):
        raise ValueError({HOSTILE!r})
    return {{"got": event}}
"""


class Browser:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, http: str, view: str = "fleet") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"http://{http}/console/#/{view}")

    def until(self, what: Callable[[], Any]) -> Any:
        """The page draws itself anew: what was found a moment ago may be gone."""

        def seen(_: object) -> Any:
            with suppress(StaleElementReferenceException):
                return what()
            return None

        return WebDriverWait(self.driver, WITHIN_S, 0.1).until(seen)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str, text: str = "") -> WebElement:
        """Waits for it, and for words in it."""
        found: WebElement = self.until(
            lambda: next((it for it in self.all(selector) if it.is_displayed() and text in it.text), None)
        )
        return found

    def js(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def colours(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def size(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def offline(self, is_so: bool) -> None:
        """Nothing that the page asks for arrives."""
        unlimited = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": is_so, **unlimited})

    def complaints(self) -> list[str]:
        """What the page wrote to the console since this was asked."""
        log: Any = self.driver
        return [it["message"] for it in log.get_log("browser")]


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(driver: webdriver.Chrome) -> Iterator[Browser]:
    """Nothing is left of what an earlier test did to it."""
    browser = Browser(driver)
    browser.complaints()
    yield browser
    browser.size(1280, 900)
    browser.colours("light")
    with suppress(WebDriverException):
        driver.execute_script("sessionStorage.clear(); localStorage.clear()")
    driver.get("about:blank")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    (folder / "web.py").write_text(SOURCE)
    return folder


@pytest.fixture
def web(shared: Fleet, source: Path) -> Iterator[Fleet]:
    """The shared fleet, with a function `web` that was called once."""
    deploy = shared.lambent("deploy", str(source), "--name", "web", "--handler", "web.handler")
    assert deploy.returncode == 0, deploy.stderr
    invoke(shared, {"say": "first"})
    yield shared
    shared.lambent("function", "delete", "web")


def invoke(fleet: Fleet, event: object, *options: str) -> "subprocess.CompletedProcess[bytes]":
    return fleet.lambent("invoke", "web", "-d", json.dumps(event), *options)


def test_the_fleet_is_shown_and_an_instance_in_it(page: Browser, web: Fleet) -> None:
    """No error comes with it, in any view."""
    page.open(web.http)
    nodes = page.until(lambda: [it.text for it in page.all(".node h3")] or None)
    assert nodes == ["worker-1", "worker-2"]
    tile = page.one(".node .tile[title^='web']")
    assert "128 MB" in (tile.get_attribute("title") or "")
    page.one(".status", "live")
    page.one(".calls .call", "web")
    for view in (*VIEWS, "logs/%"):
        page.open(web.http, view)
        page.one(".status", "live")
        page.one("main h1, main h1.unseen + section")
    assert page.complaints() == []


def test_a_function_is_invoked_and_the_call_explained(page: Browser, web: Fleet) -> None:
    page.open(web.http, "functions/web")
    event = page.one(".invoke textarea")
    event.clear()
    event.send_keys('{"say": "')
    page.one(".invoke button.main").click()
    assert "not JSON" in page.one(".invoke .answer").text
    event.send_keys('hello"}')
    page.one(".invoke button.main").click()
    assert json.loads(page.one(".invoke .payload").text) == {"got": {"say": "hello"}}
    page.one(".invoke .link", "Explain").click()
    told = page.one("dialog[open] .facts").text
    assert "worker-" in told
    assert "It took" in page.one("dialog[open] .sentence").text
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog[open]"))
    page.one(".invoke .link", "Explain").click()
    page.one("dialog[open] .facts")
    page.driver.execute_script("location.hash = '#/calls'")  # as Back does
    page.until(lambda: not page.all("dialog[open]"))
    assert page.complaints() == []


def test_a_log_is_followed(page: Browser, web: Fleet) -> None:
    page.open(web.http, "logs/web")
    page.one(".log li", "saw first")
    invoke(web, {"say": "what comes later"})
    page.one(".log li", "saw what comes later")
    page.one(".controls button", "Following").click()
    assert page.one(".controls button", "Follow").get_attribute("aria-pressed") == "false"


def test_what_a_function_says_is_never_markup(page: Browser, web: Fleet) -> None:
    """Not in its answer, nor in its log, nor as the reason of a dead letter."""
    web.lambent("async", "config", "set", "web", "--retries", "0")
    invoke(web, {"fail": "/no/such/file", "say": HOSTILE}, "--async")
    page.open(web.http, "functions/web")
    event = page.one(".invoke textarea")
    event.clear()
    event.send_keys(json.dumps({"fail": "/no/such/file"}))
    page.one(".invoke button.main").click()
    assert HOSTILE in json.loads(page.one(".invoke .payload").text)["errorMessage"]
    page.open(web.http, "logs/web")
    page.one(".log li", "ValueError: <img")
    page.open(web.http, "events/web")
    dead_letter(page)
    assert page.js("window.hacked") is None
    assert page.js("document.querySelectorAll('main img, main script').length") == 0


def dead_letter(page: Browser) -> None:
    """Looks again until there is one."""

    def there() -> bool:
        if page.all(".dead li"):
            return True
        page.one("main button", "Look again").click()
        return False

    page.until(there)


def test_a_dead_letter_is_run_again(page: Browser, shared: Fleet, source: Path, tmp_path: Path) -> None:
    shared.lambent("deploy", str(source), "--name", "letters", "--handler", "web.handler")
    shared.lambent("async", "config", "set", "letters", "--retries", "0")
    there = tmp_path / "there"
    shared.lambent("invoke", "letters", "-d", json.dumps({"fail": str(there)}), "--async")
    page.open(shared.http, "events/letters")
    dead_letter(page)
    there.touch()
    page.one(".dead button", "Redrive").click()
    page.until(lambda: not page.all(".dead li"))

    def succeeded() -> bool:
        listed = json.loads(shared.lambent("async", "ls", "letters", "--json").stdout)
        return [it["state"] for it in listed] == ["succeeded"]

    page.until(succeeded)
    shared.lambent("function", "delete", "letters")


def test_the_keyboard_is_enough(page: Browser, web: Fleet) -> None:
    """To a function, and to its answer; the focus is where one sees it."""
    page.open(web.http)
    page.one(".status", "live")

    def tab_to(selector: str) -> WebElement:
        for _ in range(40):
            page.driver.switch_to.active_element.send_keys(Keys.TAB)
            if page.js(f"document.activeElement.matches({selector!r})"):
                assert page.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return page.driver.switch_to.active_element
        raise AssertionError(f"40 tabs do not lead to {selector}")

    tab_to("nav a[data-view=functions]").send_keys(Keys.ENTER)
    page.one("tbody a.function", "web")
    tab_to("tbody a[href='#/functions/web']").send_keys(Keys.ENTER)
    page.one(".invoke textarea")
    tab_to(".invoke textarea").send_keys(Keys.CONTROL, Keys.ENTER)
    assert "got" in page.one(".invoke .payload").text
    tab_to(".invoke .link").send_keys(Keys.ENTER)
    page.one("dialog[open] .facts")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: page.js("document.activeElement.matches('.invoke .link')"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_it_in_light_and_dark(
    page: Browser, web: Fleet, scheme: str
) -> None:
    """What is read stands out from its ground: WCAG's AA."""
    page.size(360, 740)
    page.colours(scheme)
    for view in VIEWS:
        page.open(web.http, view)
        page.one(".status", "live")
        wide, there = page.js("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= there, view
        ground = page.js("getComputedStyle(document.body).backgroundColor")
        assert (luminance(ground) > 0.5) is (scheme == "light")
        for selector in ("body", ".hint", ".age", ".badge", "nav a", "main a", ".stat small"):
            for element in page.all(selector)[:3]:
                fore, back = page.driver.execute_script(SEEN, element)
                assert contrast(fore, back) >= 4.5, (view, selector, fore, back)


SEEN = """
const [element] = arguments; let under = element;
const clear = (it) => ["rgba(0, 0, 0, 0)", "transparent"].includes(getComputedStyle(it).backgroundColor);
while (clear(under) && under.parentElement) under = under.parentElement;
return [getComputedStyle(element).color, getComputedStyle(under).backgroundColor];
"""


def luminance(colour: str) -> float:
    rgb = [float(it) / 255 for it in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_top(web: Fleet) -> None:
    """One look as JSON; on a terminal until q."""
    shown = json.loads(web.lambent("top", "--json").stdout)
    assert [it["node"] for it in shown["nodes"]] == ["worker-1", "worker-2"]
    assert {"web": 1} in [it["functions"] for it in shown["nodes"]]
    (function,) = [it for it in shown["functions"] if it["function"] == "web"]
    assert function["instances"] == 1
    assert function["p99_ms"] > 0
    terminal, inner = pty.openpty()
    with os.fdopen(terminal, "rb+", buffering=0) as there:
        environment = os.environ | {"LAMBENT_ENDPOINT": web.endpoint, "TERM": "xterm", "COLUMNS": "120"}
        process = subprocess.Popen(
            [sys.executable, "-m", "lambent", "top"], stdin=inner, stdout=inner, env=environment
        )
        os.close(inner)
        said = b""
        while b"q leaves" not in said:
            said += there.read(4096)
        there.write(b"q")
        with suppress(OSError):  # the other end is closed
            while there.read(4096):
                pass
        assert process.wait(WITHIN_S) == 0
    assert b"worker-1" in said


@pytest.fixture(scope="module")
def asking(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("asking"), "--auth", "--workers", "1") as fleet:
        yield fleet


def test_a_key_is_asked_for_and_goes_no_further(page: Browser, asking: Fleet) -> None:
    """A wrong one is refused in words; with one that may look nothing else works, and says so."""
    rules = "--allow", "Get*,List*", "--json"
    made = asking.lambent("key", "create", "--etcd", ",".join(asking.etcd), *rules)
    assert made.returncode == 0, made.stderr
    page.open(asking.http)
    page.one("#token").send_keys("not.akey", Keys.ENTER)
    page.one("form [role=alert]", "not taken")
    token = json.loads(made.stdout)["token"]
    page.one("#token").send_keys(token, Keys.ENTER)
    page.one(".node h3", "worker-1")
    assert page.js("sessionStorage.getItem('lambent-token')") == token
    assert page.js("localStorage.length") == 0
    assert page.js("document.cookie") == ""
    assert token not in page.driver.current_url
    page.driver.execute_script("location.hash = '#/functions/web'")
    page.one(".invoke button.main").click()
    page.one(".invoke .bad", "no right")
    page.driver.execute_script("location.hash = '#/logs/web'")
    page.one(".empty.bad", "ReadLogs")
    page.one("#forget").click()
    page.one("#token")


def test_what_a_key_may_not_see_is_no_zero(page: Browser, asking: Fleet) -> None:
    """A function's numbers are dashes where neither calls nor instances may be looked at."""
    made = asking.lambent(
        "key", "create", "--etcd", ",".join(asking.etcd), "--allow", "ListNodes,ListFunctions", "--json"
    )
    page.open(asking.http)
    page.one("#token").send_keys(json.loads(made.stdout)["token"], Keys.ENTER)
    page.one(".node h3", "worker-1")
    page.driver.execute_script("location.hash = '#/functions/web'")
    page.one(".empty.bad", "ListInstances")
    shown = {it.text for it in page.all(".stat strong")}
    assert shown == {"–"}


def test_a_frontend_that_is_away_is_told_and_waited_for(page: Browser, asking: Fleet) -> None:
    page.open(asking.http)
    page.one("#token").send_keys((asking.data / "operator-key").read_text().strip(), Keys.ENTER)
    page.one(".node h3", "worker-1")
    page.offline(True)
    page.one("#away", "What is shown is of")
    page.one(".status", "not fresh")
    assert page.all(".node h3")
    page.offline(False)
    page.one(".status", "live")
    assert not page.one("#main").find_elements(By.ID, "token")
    page.until(lambda: not page.js("document.getElementById('away').checkVisibility()"))
    killed = asking.kill("frontend")  # it may be back before the page asks again
    asking.runs_again("frontend", killed)
    page.one(".status", "live")
    assert not page.one("#main").find_elements(By.ID, "token")
