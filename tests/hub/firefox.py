"""Firefox without a window, driven by its own Marionette protocol: no driver and no package is needed."""

import itertools
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.hub.browser import WAIT_S, Page

PROGRAM = shutil.which("firefox") or shutil.which("firefox-esr")

# No request leaves the machine, and pages are not asked whether they may do what they do.
_PREFERENCES = {
    "network.proxy.type": 1, "network.proxy.http": "127.0.0.1", "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1", "network.proxy.ssl_port": 9, "network.proxy.no_proxies_on": "127.0.0.1",
    "browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False,
}  # fmt: skip


class Firefox(Page):
    """One page of a Firefox that can reach this machine only; the same methods as `browser.Browser`."""

    def __init__(self, profile: Path) -> None:
        profile.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in _PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join([*lines, f'user_pref("marionette.port", {port});']))
        self._process = subprocess.Popen(
            [PROGRAM, "--headless", "--no-remote", "--marionette", "--profile", profile],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._numbers = itertools.count(1)
        self._socket = self._connected(port)
        self._stream = self._socket.makefile("rb")
        self._message()  # It introduces itself.
        self._call("WebDriver:NewSession", capabilities={"alwaysMatch": {"timeouts": {"pageLoad": WAIT_S * 1000}}})

    def _connected(self, port: int) -> socket.socket:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            except ConnectionRefusedError:
                assert time.monotonic() < until, "Firefox does not listen"
                time.sleep(0.2)

    def _message(self) -> object:
        """The next one: its length in decimal digits, a colon, and JSON."""
        digits = b""
        while (one := self._stream.read(1)) != b":":
            digits += one
        return json.loads(self._stream.read(int(digits)))

    def _call(self, command: str, **parameters: object) -> object:
        content = json.dumps([0, next(self._numbers), command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(content), content))
        _, _, error, result = self._message()
        assert error is None, error
        return result

    def open(self, address: str) -> None:
        self._call("WebDriver:Navigate", url=address)

    def value(self, expression: str) -> object:
        """Of a JavaScript expression."""
        return self._call("WebDriver:ExecuteScript", script=f"return {expression.strip()}", args=[])["value"]

    def upload(self, selector: str, paths: list[Path]) -> None:
        """Choose files in an <input type=file>."""
        found = self._call("WebDriver:FindElement", using="css selector", value=selector)["value"]
        (reference,) = found.values()
        self._call("WebDriver:ElementSendKeys", id=reference, text="\n".join(str(path) for path in paths))

    @property
    def requested(self) -> list[str]:
        """Addresses that the page asked for."""
        return self.value("performance.getEntries().map((entry) => entry.name).filter((name) => name.includes(':'))")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()
