"""A stand-in for Kaggle on 127.0.0.1 that the unpatched kagglehub client talks to under Kaggle's own addresses.

It is an HTTPS proxy: the client is told to use it (`HTTPS_PROXY`) and to believe its certificates
(`REQUESTS_CA_BUNDLE`), asks it for a tunnel to api.kaggle.com, and finds this server at the other end.

    with KaggleServer(tmp_path, archive) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.answer_next("DownloadDataset", Fault(status=503))
        kagglehub.dataset_download("owner/slug")
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

API_HOST, STORAGE_HOST = "api.kaggle.com", "storage.googleapis.com"
STEPS = ("GetDataset", "DownloadDataset", "archive")
_API_PREFIX = "/v1/datasets.DatasetApiService/"


@dataclass
class Fault:
    """What to do once in place of the right answer.

    `status` and `body` are sent as they are; `cut_after` sends so many bytes of the archive and hangs up, 0 without a
    word; `archive` is sent in place of the right one, under the right one's length rules and MD5.
    """

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    archive: bytes | None = None


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    step: str
    payload: dict
    headers: dict[str, str]


class KaggleServer:
    """Serves one archive for every data set; `version` is the newest one, `with_md5` names its checksum."""

    def __init__(self, folder: Path, archive: bytes) -> None:
        import trustme  # Only here, so that a missing package stops these tests and not the whole collection.

        self.archive, self.version, self.with_md5 = archive, 1, True
        self.requests: list[Request] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        authority = trustme.CA()
        self._bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(self._bundle)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(API_HOST, STORAGE_HOST).configure_cert(self._tls)
        self._http = _TunnelServer(("127.0.0.1", 0), _Handler)
        self._http.kaggle, self._http.tls = self, self._tls

    def __enter__(self) -> "KaggleServer":
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that lead a client here."""
        address = f"http://127.0.0.1:{self._http.server_port}"
        return {
            "HTTPS_PROXY": address,
            "https_proxy": address,
            "NO_PROXY": "",
            "no_proxy": "",
            "REQUESTS_CA_BUNDLE": str(self._bundle),
        }

    def answer_next(self, step: str, *faults: Fault) -> None:
        """Answer the next requests for `step` (one of `STEPS`) with `faults`, one each."""
        assert step in STEPS, step
        self.faults[step].extend(faults)

    def steps(self) -> list[str]:
        """What was asked for so far, in order."""
        return [request.step for request in self.requests]


class _TunnelServer(ThreadingHTTPServer):
    daemon_threads = True
    kaggle: KaggleServer
    tls: ssl.SSLContext

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _TunnelServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_CONNECT(self) -> None:
        assert self.path in (f"{API_HOST}:443", f"{STORAGE_HOST}:443"), self.path
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = self.path.removeprefix(_API_PREFIX)
        if self._is_answered_by_fault(step, payload):
            return
        if step == "GetDataset":
            self._send(200, json.dumps({"currentVersionNumber": self.server.kaggle.version}).encode())
        else:
            self._send(302, b"", {"Location": f"https://{STORAGE_HOST}/bundle/archive.zip?signature=x"})

    def do_GET(self) -> None:
        if self._is_answered_by_fault("archive", {}):
            return
        self._send_archive(self.server.kaggle.archive)

    def _is_answered_by_fault(self, step: str, payload: dict) -> bool:
        kaggle = self.server.kaggle
        kaggle.requests.append(Request(step, payload, dict(self.headers)))
        if not kaggle.faults[step]:
            return False
        fault = kaggle.faults[step].popleft()
        if fault.status:
            self._send(fault.status, fault.body, fault.headers)
        elif fault.cut_after == 0:
            self._hang_up()
        else:
            self._send_archive(kaggle.archive if fault.archive is None else fault.archive, fault.cut_after)
        return True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        content_type = "application/json" if body.startswith(b"{") else "text/html"
        for name, value in ({"Content-Type": content_type} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _send_archive(self, content: bytes, cut_after: int | None = None) -> None:
        kaggle = self.server.kaggle
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted.group(1)) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if kaggle.with_md5:
            digest = base64.b64encode(hashlib.md5(kaggle.archive).digest()).decode()
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={digest}")
        self.end_headers()
        self.wfile.write(content[start:cut_after])
        self.wfile.flush()
        if cut_after is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.connection.close()
