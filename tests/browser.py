"""A page in headless Chromium, for tests of pages.

Chromium is spoken to over a pipe (`--remote-debugging-pipe`, the Chrome DevTools Protocol: JSON that ends in
a zero byte), so the tests need no driver, no port and no other package. `--screenshot` and `--dump-dom` need
nothing either, but cannot press keys, wait for a player or tell what the console said.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

if os.name == "posix":
    import fcntl

__all__ = ["Page", "open_browser"]

_SECONDS = 30  # longest wait for an answer
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SWITCHES = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--mute-audio"),
    *("--no-first-run", "--disable-crash-reporter", "--disable-breakpad", "--disable-background-networking"),
    *("--disable-component-update", "--disable-dev-shm-usage", "--no-proxy-server", "--disable-extensions"),
)


class Page:
    """An open page.

    Attributes:
        complaints: what the console reported as a warning or an error, exceptions, and requests to anywhere
            but ``site``.
    """

    def __init__(self, send: int, receive: int, site: str | None = None) -> None:
        self._fine = ("file:", "data:", "about:", "blob:", *(() if site is None else (site,)))
        self._send, self._receive, self._number, self._rest = send, receive, 0, b""
        self._session: str | None = None
        self._seen: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._send, data) :]
        end = time.monotonic() + _SECONDS
        while (answer := self._next(end)).get("id") != self._number:
            self._event(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        found: dict[str, Any] = answer["result"]
        return found

    def _next(self, end: float) -> dict[str, Any]:
        """Return the next message from the browser."""
        while b"\0" not in self._rest:
            ready = select.select([self._receive], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, "Chromium does not answer"
            data = os.read(self._receive, 1 << 20)
            assert data, "Chromium ended"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def _event(self, message: dict[str, Any]) -> None:
        """Note what happened in the page."""
        name, values = message.get("method", ""), message.get("params", {})
        self._seen.append(name)
        if name == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(values["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and values["type"] in ("warning", "error", "assert"):
            self.complaints.append(json.dumps(values["args"]))
        elif name == "Log.entryAdded" and values["entry"]["level"] in ("warning", "error"):
            self.complaints.append(json.dumps(values["entry"]))
        elif name == "Network.requestWillBeSent" and not values["request"]["url"].startswith(self._fine):
            self.complaints.append(f"asked for {values['request']['url'][:100]}")

    def close(self) -> None:
        """Close the browser."""
        self._session = None
        self.call("Browser.close")

    def size(self, width: int, height: int = 800) -> None:
        """Give the page a size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def open(self, path: str | Path) -> None:
        """Open a file, or an address, and wait until it is loaded."""
        url = path if "://" in str(path) else Path(path).absolute().as_uri()
        self._seen.clear()
        self.call("Page.navigate", url=str(url))
        end = time.monotonic() + _SECONDS
        while "Page.loadEventFired" not in self._seen:
            self._event(self._next(end))

    def run(self, script: str) -> Any:
        """Return the value of an expression (or of its promise), run as if the user had clicked."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, such as ``press("Tab", 9)``."""
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more
            )
            more = {}

    def mouse(self, x: float, y: float, click: bool = False) -> None:
        """Move the mouse to a point of the window, and click there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """Return the page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])


@contextmanager
def open_browser(folder: Path, *switches: str, site: str | None = None) -> Iterator[Page]:
    """Start Chromium with its files in a folder, and stop it; skip the test where there is none.

    Args:
        folder: an empty one.
        switches: more of Chromium's command line.
        site: the start of the addresses that pages may ask for; ``None``: of none.
    """
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None or os.name != "posix":
        pytest.skip("this test needs Chromium: install a package named chromium or google-chrome")
    words = [program, *_SWITCHES, *switches, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with ExitStack() as opened:
        commands, send = _pipe(opened)
        receive, answers = _pipe(opened)
        with (folder / "chromium.log").open("wb") as log:
            places = {1: log.fileno(), 2: log.fileno(), 3: commands, 4: answers}  # 3 and 4 by the protocol
            actions = [(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in places.items()]
            homes = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR"), str(folder))  # also of its sound server
            child = os.posix_spawn(program, words, {**os.environ, **homes}, file_actions=actions, setpgroup=0)
        try:
            page = Page(send, receive, site)
            try:
                yield page
            finally:
                page.close()
        finally:
            if not _ended(child, _SECONDS):
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _pipe(opened: ExitStack) -> tuple[int, int]:
    """Return the two ends of a pipe, closed at the end, whose numbers are none that Chromium gets."""
    low = os.pipe()
    ends = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    for end in ends:
        opened.callback(os.close, end)
    return ends[0], ends[1]


def _ended(child: int, seconds: float) -> bool:
    """Return whether a process has ended, or does so in some seconds."""
    end = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
