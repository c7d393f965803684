"""A headless Chromium that tells what a page does."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

#: Canvases are inside of two shadow roots, Bokeh's figure and its canvas.
PLOTS = """
const canvases = [...document.querySelectorAll(".plot .bk-Figure")].map(
  (figure) => figure.shadowRoot.querySelector(".bk-Canvas").shadowRoot.querySelector("canvas"));
"""
#: Colours in the middle of each plot: axes are not there.
COLOURS = f"""{PLOTS}
return canvases.map((canvas) => {{
  const [width, height] = [canvas.width, canvas.height];
  const pixels = new Uint32Array(
    canvas.getContext("2d").getImageData(width * 0.2, height * 0.05, width * 0.75, height * 0.6).data.buffer);
  return new Set(pixels.filter((pixel) => pixel !== 0)).size;
}});
"""
PICTURES = f"{PLOTS} return canvases.map((canvas) => canvas.toDataURL());"
DRAWN = "return window.Bokeh !== undefined && Bokeh.documents.length > 0 && Bokeh.documents.every((d) => d.is_idle);"


class Browser:
    """One page at a time."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show `page`, in a window of that size, and wait until all is drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.set_dark(dark=dark)
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.as_uri())
        self.wait_for(DRAWN)

    def set_dark(self, *, dark: bool) -> None:
        """Prefer a colour scheme."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page and give what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition: str, seconds: float = 60) -> None:
        """Wait until a function's body in the page returns something true."""
        WebDriverWait(self.driver, seconds).until(lambda driver: driver.execute_script(condition))

    def complaints(self) -> list[str]:
        """Give warnings and errors of the console."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> set[str]:
        """Give the addresses that were asked for, but for data in the page itself."""
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = {event["request"]["url"] for event in sent}
        return {address for address in addresses if not address.startswith("data:")}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser that ends with the context; fail where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.fail("no chromium with its chromedriver is here: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # Chromium's own sandbox needs rights that containers and root lack; the page is ours.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(window)
    finally:
        window.quit()
