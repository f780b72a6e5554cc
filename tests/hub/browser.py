"""Chromium without a window, driven through its debugging pipe: no driver and no package is needed."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

WAIT_S = 60


class Page:
    """What the pages of both browsers can do."""

    def value(self, expression: str) -> object:
        """Of a JavaScript expression."""
        raise NotImplementedError

    def wait_for(self, expression: str) -> object:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if found := self.value(expression):
                return found
            time.sleep(0.1)
        raise AssertionError(f"never true: {expression}\n{self.value('document.body.innerText')}")


class Browser(Page):
    """One page of a chromium that can reach this machine only; `requested` lists the addresses that it asked for."""

    def __init__(self, profile: Path, *, width: int = 1100, height: int = 900, is_phone: bool = False) -> None:
        self.requested: list[str] = []
        self._numbers, self._read = itertools.count(1), b""
        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        program = shutil.which("chromium") or "chromium"
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
            *("--disable-component-update", "--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        # The browser speaks on its descriptors 3 and 4.
        command = f'exec "$0" "$@" 3<&{to_child} 4>&{from_child}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *options, "about:blank"], pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "DOM", "Runtime"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def call(self, method: str, **params: object) -> dict:
        """A command of the DevTools protocol to the page."""
        return self._call(method, self._session, **params)

    def _call(self, method: str, session: str | None = None, **params: object) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], WAIT_S)
            content = os.read(self._from, 1 << 20) if ready else b""
            assert content, "the browser says nothing any more"
            self._read += content
        raw, self._read = self._read.split(b"\0", 1)
        message = json.loads(raw)
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        return message

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> object:
        """Of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def upload(self, selector: str, paths: list[Path]) -> None:
        """Choose files in an <input type=file>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def screenshot(self, path: Path) -> None:
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(shown))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
