"""Pages as a person sees them and works with them: in Debian's chromium, without a network."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.sync.client import ClientConnection, connect

_ALONE = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
_PATIENCE_S = 60.0


def chromium() -> str:
    """Return the browser's path; skips without one, and in CI fails."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing")
        pytest.skip("needs Debian's chromium")
    return browser


def screenshot(page: Path, folder: Path, height: int = 3600) -> NDArray[np.int16]:
    """Return a page's RGB pixels (height, 1200, 3); skips without a browser, and in CI fails."""
    picture = folder / "page.png"
    # --host-resolver-rules: whatever the page asks of a network fails
    subprocess.run(
        [
            chromium(), *_ALONE, f"--screenshot={picture}",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size=1200,{height}",
            f"--user-data-dir={folder}/profile", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(picture) as shown:
        return np.asarray(shown.convert("RGB"), np.int16)


class Tab:
    """A tab of a browser, over the DevTools protocol.

    Attributes
    ----------
    asked
        URLs that the page asked for.
    complaints
        What the browser complained of: errors of scripts, and what the page's policy forbids.
    """

    def __init__(self, wire: ClientConnection) -> None:
        self._wire, self._numbers = wire, itertools.count(1)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._wire.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._wire.recv(_PATIENCE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif message.get("method") == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page in a window of that size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Return the value of a script in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until a script in the page is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.evaluate(script):
            assert time.monotonic() < end, (script, self.evaluate("document.body.innerText"), self.complaints)
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, " ": 32}
        for key in keys:
            text = {"Enter": "\r", " ": " "}.get(key, "")
            code = {"windowsVirtualKeyCode": codes[key], "nativeVirtualKeyCode": codes[key]}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key.strip() or "Space", text=text, **code)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key.strip() or "Space", **code)

    def drop(self, file: Path, x: int, y: int) -> None:
        """Drop a file onto the page, as from the desktop."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, file: Path, selector: str) -> None:
        """Choose a file in the dialog of an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def spoken(self) -> list[tuple[str, str]]:
        """Return role and name of everything that a screen reader finds."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        seen = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in seen]

    def picture(self) -> NDArray[np.int16]:
        """Return the whole page's RGB pixels."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
        with Image.open(io.BytesIO(base64.b64decode(taken))) as shown:
            return np.asarray(shown.convert("RGB"), np.int16)


@contextmanager
def browsing(folder: Path) -> Iterator[Tab]:
    """Yield a tab of a browser that reaches this machine and nothing else."""
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    profile = folder / "profile"
    command = [chromium(), *_ALONE, "--remote-debugging-port=0", rules, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with connect(_tab_of(profile), max_size=None) as wire:
                yield Tab(wire)
        finally:
            process.terminate()


def _tab_of(profile: Path) -> str:
    """Wait for a browser's tab and return its address."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        told = profile / "DevToolsActivePort"
        if told.exists() and (lines := told.read_text().splitlines()):
            with urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=_PATIENCE_S) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    pytest.fail("chromium did not start")
