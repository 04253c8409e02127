"""What a page shows a person: its text as headless Chromium renders it."""

import shutil
import time
from contextlib import contextmanager

import pytest

SECONDS = 40
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)
VISIBLE_TEXT = """
const found = [];
function walk(node) {
  if (node.shadowRoot) walk(node.shadowRoot);
  for (const child of node.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) found.push(child.textContent);
    else if (!["STYLE", "SCRIPT"].includes(child.tagName)) walk(child);
  }
}
walk(document.body);
return found.join(" ");
"""
"""Also inside shadow roots, in which TensorBoard draws its older pages."""


@contextmanager
def browser():
    """Start headless Chromium; skip where Debian's packages chromium and chromium-driver are not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs the packages chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in SWITCHES:
        options.add_argument(switch)
    window = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield window
    finally:
        window.quit()


def shown(window, address: str, *expected: str) -> str:
    """Open an address in a fresh page and return its text once all that is expected stands there, or time is up."""
    window.get("about:blank")
    window.get(address)
    deadline, text = time.monotonic() + SECONDS, ""
    while time.monotonic() < deadline and not all(part in text for part in expected):
        time.sleep(0.5)
        text = window.execute_script(VISIBLE_TEXT)
    return text
