"""A headless Chromium, driven by its DevTools protocol over a pipe; no package is needed for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-extensions", "--disable-background-networking", "--hide-scrollbars"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
PATIENCE = 120
"""Seconds to wait for an answer; only a browser that hangs needs as many."""


def executable() -> str | None:
    """Path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    executable() is None,
    reason="needs Chromium (Debian and Ubuntu: apt-get install chromium)",
)


class Browser:
    """One page. `complaints` collects what it reports as errors or warnings."""

    def __init__(self, process: subprocess.Popen, write: int, read: int):
        self._process, self._write, self._read = process, write, read
        self._number, self._pending, self._session = 0, b"", None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready and self._process.poll() is None, "Chromium does not answer"
            self._pending += os.read(self._read, 2**20)
        line, _, self._pending = self._pending.partition(b"\0")
        answer = json.loads(line)
        self._listen(answer)
        return answer

    def _listen(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, path: Path, width: int = 1280, height: int = 900, scale: float = 1) -> None:
        """Loads a file and waits until it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.settle()

    def settle(self) -> None:
        """Until what was changed is drawn."""
        self.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        said = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            self.evaluate("new Promise(r => setTimeout(r, 20))")

    def click(self, selector: str) -> None:
        """Clicks the middle of an element, which is scrolled into view first."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at)
        self.settle()

    def drag(self, selector: str, x: float, y: float) -> None:
        """Drags by (x, y) pixels from the middle of an element, once that is in view."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        inside = "document.elementFromPoint(...{}) === document.querySelector({!r})"
        assert self.evaluate(inside.format(json.dumps(box), selector)), f"{selector} is covered"
        steps = [(0, "mousePressed"), (0.5, "mouseMoved"), (1, "mouseMoved"), (1, "mouseReleased")]
        for share, kind in steps:
            at = {"x": box[0] + share * x, "y": box[1] + share * y, "button": "left", "buttons": 1}
            self.call("Input.dispatchMouseEvent", type=kind, clickCount=1, **at)

    def press(self, key: str, text: str = "") -> None:
        """Presses a key on what has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text)

    def dark(self, on: bool) -> None:
        """Sets what the system prefers."""
        value = "dark" if on else "light"
        feature = {"name": "prefers-color-scheme", "value": value}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, selector: str | None = None, whole: bool = False) -> bytes:
        """A PNG of the window, of the whole page, or of one element."""
        more: dict[str, Any] = {}
        if selector:
            x, y, w, h = self.evaluate(
                f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
                " return [b.x + scrollX, b.y + scrollY, b.width, b.height]; })()"
            )
            more["clip"] = {"x": x, "y": y, "width": w, "height": h, "scale": 1}
        if whole or selector:
            more["captureBeyondViewport"] = True
        return base64.b64decode(self.call("Page.captureScreenshot", **more)["data"])

    def settled(self, selector: str) -> bytes:
        """An element's picture once it stays as it is."""
        before, now = b"", self.screenshot(selector)
        while now != before:
            self.evaluate("new Promise(r => setTimeout(r, 200))")
            before, now = now, self.screenshot(selector)
        return now

    def changed(self, selector: str, before: bytes) -> bytes:
        """An element's picture once it differs from `before`; a slow machine draws it late."""
        end = time.monotonic() + PATIENCE
        while (now := self.screenshot(selector)) == before:
            assert time.monotonic() < end, f"{selector} still looks the same"
        return now


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end."""
    path = executable()
    assert path, "no Chromium"
    to_browser, from_browser = os.pipe(), os.pipe()

    # The browser reads from 3 and writes to 4. A shell moves them there: a function between fork
    # and exec may deadlock where jax's threads are.
    read, write = to_browser[0], from_browser[1]
    shell = f'exec "$0" "$@" 3</dev/fd/{read} 4>/dev/fd/{write}'
    arguments = [*OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        ["sh", "-c", shell, path, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(read, write),
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Browser(process, to_browser[1], from_browser[0])
    finally:
        process.terminate()
        process.wait()
        os.close(to_browser[1])
        os.close(from_browser[0])
