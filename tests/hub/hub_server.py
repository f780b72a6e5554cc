"""A stand-in for the Hugging Face Hub on 127.0.0.1, and for the storage that it sends clients to, on a port of its own.

The unpatched huggingface_hub client talks to it through HF_ENDPOINT. It keeps repositories as commits of whole trees,
takes large files by plain LFS or by Xet, and refuses what the Hub refuses.

    server = HubServer(xet_dir)
    server.fail("commit", Fault(status=503), Fault(lose_answer=True))
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
import urllib.parse
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import yaml

WRITER, READER = "hf_writer_of_the_tests", "hf_reader_of_the_tests"
ACCOUNTS = {WRITER: ("me", "write"), READER: ("me", "read")}
LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "cc0-1.0", "other", "unknown"}
PAGE_SIZE = 4  # Entries of a tree in one answer.
LFS_FROM_BYTES = 20_000
RATE_LIMITED = {"RateLimit": '"api";r=0;t=42', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}


@dataclass
class Fault:
    """What to do once in place of the right answer.

    `status` is answered with `headers`; `drop` hangs up before anything is done, in the middle of an upload if there is
    one; `lose_answer` does what was asked and then hangs up; `flip` changes one byte of what is sent; `silent_s` waits
    so many seconds before it does anything; `padding` is the number of bytes of an error's body.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    lose_answer: bool = False
    flip: bool = False
    silent_s: float = 0.0
    padding: int = 0


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    step: str
    method: str
    path: str
    token: str | None


@dataclass
class Repo:
    """A repository: trees by commit id, and the names that point to commits."""

    private: bool
    sdk: str | None = None
    trees: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)  # Content, and whether it is LFS.
    titles: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)  # Numbers of pull requests.
    has_discussions: bool = True

    def add(self, ref: str, tree: dict[str, tuple[bytes, bool]], title: str) -> str:
        seed = f"{len(self.trees)}{ref}{title}{sorted((k, hash(v)) for k, v in tree.items())}"
        oid = hashlib.sha1(seed.encode()).hexdigest()
        self.trees[oid], self.titles[oid], self.refs[ref] = tree, title, oid
        return oid

    def resolve(self, revision: str) -> str | None:
        if revision in self.trees:
            return revision
        return self.refs.get(revision) or self.tags.get(revision)

    def titles_of(self, n_skipped: int = 1) -> list[str]:
        """What was committed, without the first commit, which the Hub makes itself."""
        return list(self.titles.values())[n_skipped:]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: content for path, (content, _) in self.trees[self.resolve(revision)].items()}


class HubServer:
    """The Hub; `storage` is the other server, `xet_dir` the folder in which Xet keeps its chunks.

    Without `has_xet` it takes large files by plain LFS alone; what is committed to a path in `tampered` is changed.
    """

    def __init__(self, xet_dir: Path) -> None:
        self.xet_dir = xet_dir
        self._servers = [_Server(("127.0.0.1", 0), kind) for kind in (_HubHandler, _StorageHandler)]
        self.endpoint, self.storage = (f"http://127.0.0.1:{one.server_port}" for one in self._servers)
        for one in self._servers:
            one.hub = self
            threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        self._silent = socket.create_server(("127.0.0.1", 0), backlog=64)  # Takes connections and says nothing.
        self.silent_port = self._silent.getsockname()[1]
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.xet_hashes: dict[str, tuple[str, bytes]] = {}
        self.has_xet, self.is_xet_silent, self.tampered = True, False, set()
        self.n_bytes_sent = 0  # Of padding.

    def close(self) -> None:
        self._silent.close()
        for one in self._servers:
            one.shutdown()
            one.server_close()

    def fail(self, step: str, *faults: Fault) -> None:
        """Answer the next requests of one kind with `faults`, one each."""
        self.faults[step].extend(faults)

    def steps(self) -> list[str]:
        return [request.step for request in self.requests]

    def add_repo(self, repo_id: str, repo_type: str = "model", *, private: bool = True, sdk: str | None = None) -> Repo:
        repo = self.repos[repo_type, repo_id] = Repo(private, sdk)
        repo.add("main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)}, "initial commit")
        return repo

    def knows_by_xet(self, path: Path) -> None:
        """Tell which content the chunks are that a client is going to send: the Hub reads that from its own store."""
        import hf_xet

        content = path.read_bytes()
        (info,) = hf_xet.hash_files([str(path)])
        self.xet_hashes[hashlib.sha256(content).hexdigest()] = (info.hash, content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm, wbufsize = True, -1  # An answer is one packet that doesn't wait for the client.
    server: _Server
    body = b""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def handle_any(self) -> None:
        self.url = urllib.parse.urlsplit(self.path)
        step, action = self.route(self.url.path)
        self.hub.requests.append(Request(step, self.command, self.path, self.token))
        faults = self.hub.faults[step]
        self.fault = faults.popleft() if faults else Fault()
        length = int(self.headers.get("Content-Length") or 0)
        time.sleep(self.fault.silent_s)
        if self.fault.drop:
            self.rfile.read(length // 2)
            return self.hang_up()
        self.body = self.rfile.read(length)
        if self.fault.status:
            if self.fault.padding:
                return self.answer_at_length(self.fault)
            return self.answer({"error": f"planned {self.fault.status}"}, self.fault.status, self.fault.headers)
        try:
            action()
        except _Refused as refused:
            self.answer({"error": refused.message}, refused.status, refused.headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.fault.lose_answer:
            return self.hang_up()
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        if self.fault.flip:
            raw = raw[:-1] + bytes([raw[-1] ^ 1])
        self.send_response(status)
        headers = {"Content-Length": str(len(raw)), "Content-Type": "application/json"} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def answer_at_length(self, fault: Fault) -> None:
        self.send_response(fault.status)
        for name, value in (fault.headers | {"Content-Length": str(fault.padding)}).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.hub.n_bytes_sent < fault.padding:
                self.wfile.write(b"x" * 100_000)
                self.wfile.flush()
                self.hub.n_bytes_sent += 100_000
        self.close_connection = True

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _StorageHandler(_Handler):
    """Where large files lie: whoever knows the signed address may read or write, and a token is never sent there."""

    def route(self, path: str):
        return ("put" if self.command == "PUT" else "storage"), self.store if self.command == "PUT" else self.fetch

    def _oid(self) -> str:
        if self.token or "signature=" not in self.url.query:
            raise _Refused(400, "only one way of authorisation is allowed")
        return self.url.path.strip("/")

    def store(self) -> None:
        if hashlib.sha256(self.body).hexdigest() != self._oid():
            raise _Refused(400, "the content is not what the address is for")
        self.hub.stored[self._oid()] = self.body
        self.answer(b"", headers={"ETag": '"x"'})

    def fetch(self) -> None:
        self.answer(self.hub.stored.get(self._oid()) or self.hub.xet_hashes[self._oid()][1])


class _HubHandler(_Handler):
    """The Hub's own addresses."""

    def route(self, path: str):
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)\.git/info/lfs/(objects/batch|verify)", path):
            self.take(found[1], found[2])
            return ("batch", self.lfs_batch) if "batch" in found[3] else ("verify", self.lfs_verify)
        if found := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.take(found[1], found[2])
            revision, file = map(urllib.parse.unquote, found.groups()[2:])
            return "resolve", lambda: self.resolve(revision, file)
        if found := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?", path):
            self.take(found[1], found[2])
            step, rest = found[3] or "info", urllib.parse.unquote(found[4] or "main")
            step = "info" if step == "revision" else step
            return step, lambda: getattr(self, step.replace("-", "_"))(rest)
        step = path.removeprefix("/api/")
        return step, getattr(self, step.replace("-", "_").replace("/", "_"), self.nothing)

    def take(self, repo_type: str | None, repo_id: str) -> None:
        self.key = (repo_type or "model", repo_id)

    def nothing(self) -> None:
        raise _Refused(404, "Sorry, we can't find the page you are looking for.")

    def json(self) -> dict:
        return json.loads(self.body)

    def account(self) -> tuple[str, str] | None:
        if self.token is None:
            return None
        if self.token not in ACCOUNTS:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return ACCOUNTS[self.token]

    def repo(self, *, write: bool = False) -> Repo:
        account, repo = self.account(), self.hub.repos.get(self.key)
        owner = self.key[1].split("/")[0]
        if repo is None or (repo.private and (account is None or account[0] != owner)):
            raise _Refused(404 if account else 401, "Repository not found", "RepoNotFound")
        if write and (account is None or account[1] != "write" or account[0] != owner):
            raise _Refused(403, f"You don't have the right to write to {owner}")
        return repo

    def tree_at(self, repo: Repo, revision: str) -> tuple[str, dict[str, tuple[bytes, bool]]]:
        oid = repo.resolve(revision)
        if oid is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid, repo.trees[oid]

    def agent_harnesses(self) -> None:
        self.answer({"standardEnvVars": [], "harnesses": {}})

    def whoami_v2(self) -> None:
        account = self.account()
        if account is None:
            raise _Refused(401, "Invalid username or password.")
        access = {"displayName": "tests", "role": account[1]}
        self.answer(
            {"type": "user", "name": account[0], "orgs": [], "auth": {"type": "access_token", "accessToken": access}}
        )

    def validate_yaml(self) -> None:
        errors = list(_card_errors(self.json()["content"], self.json()["repoType"]))
        found = {"errors": [{"message": error} for error in errors], "warnings": []}
        self.answer(found, 400 if errors else 200)

    def repos_create(self) -> None:
        account, wanted = self.account(), self.json()
        if account is None:
            raise _Refused(401, "Invalid username or password.")
        if account[1] != "write" or wanted["organization"] not in (None, account[0]):
            kind = wanted.get("type", "model")
            raise _Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{account[0]}"')
        key = (wanted.get("type", "model"), f"{account[0]}/{wanted['name']}")
        url = f"{self.hub.endpoint}/{key[1]}"
        if key in self.hub.repos:
            return self.answer({"error": "You already created this repo", "url": url}, 409)
        self.hub.add_repo(key[1], key[0], private=wanted["visibility"] == "private", sdk=wanted.get("sdk"))
        self.answer({"url": url, "name": key[1]})

    def settings(self, _: str) -> None:
        self.repo(write=True).private = self.json()["visibility"] == "private"
        self.answer({})

    def info(self, revision: str) -> None:
        repo = self.repo()
        oid, tree = self.tree_at(repo, revision)
        front = yaml.safe_load(tree["README.md"][0].decode().split("---")[1]) if "README.md" in tree else {}
        found = {"_id": "0", "id": self.key[1], "sha": oid, "private": repo.private, "tags": front.get("tags", [])}
        found |= {key: front[key] for key in ("pipeline_tag", "library_name") if key in front}
        self.answer(found | {"siblings": [{"rfilename": path} for path in sorted(tree)], "cardData": front})

    def tree(self, rest: str) -> None:
        revision, _, below = rest.partition("/") if re.match(r"[0-9a-f]{40}/", rest) else (rest, "", "")
        oid, tree = self.tree_at(self.repo(), revision)
        query = urllib.parse.parse_qs(self.url.query)
        inside = f"{below}/" if below else ""
        folders = {str(parent) for path in tree for parent in PurePosixPath(path).parents} - {"."}
        entries = [{"type": "directory", "path": path, "size": 0, "oid": git_sha1(path.encode())} for path in folders]
        entries += [self.entry(path, *tree[path]) for path in tree]
        entries = sorted((one for one in entries if one["path"].startswith(inside)), key=lambda one: one["path"])
        if query.get("recursive") != ["true"]:
            entries = [one for one in entries if "/" not in one["path"].removeprefix(inside)]
        start, size = int(query.get("cursor", ["0"])[0]), PAGE_SIZE if len(entries) < 50 else 1000
        query = {name: values[0] for name, values in query.items()} | {"cursor": start + size}
        more = f"{self.hub.endpoint}{self.url.path}?{urllib.parse.urlencode(query)}"
        link = {"Link": f'<{more}>; rel="next"'} if start + size < len(entries) else {}
        self.answer(entries[start : start + size], headers=link)

    def paths_info(self, revision: str) -> None:
        _, tree = self.tree_at(self.repo(), revision)
        wanted = urllib.parse.parse_qs(self.body.decode())["paths"]
        self.answer([self.entry(path, *tree[path]) for path in wanted if path in tree])

    def entry(self, path: str, content: bytes, is_lfs: bool) -> dict:
        found = {"type": "file", "path": path, "size": len(content)}
        if not is_lfs:
            return found | {"oid": git_sha1(content)}
        oid = hashlib.sha256(content).hexdigest()
        found |= {"oid": git_sha1(oid.encode()), "lfs": {"oid": oid, "size": len(content), "pointerSize": 134}}
        return found | ({"xetHash": self.hub.xet_hashes[oid][0]} if oid in self.hub.xet_hashes else {})

    def refs(self, _: str) -> None:
        repo = self.repo()
        named = [(name, name if name.startswith("refs/") else f"refs/heads/{name}") for name in repo.refs]
        rows = [{"name": name, "ref": ref, "targetCommit": repo.refs[name]} for name, ref in named]
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repo.tags.items()]
        found = {"branches": [row for row in rows if "/pr/" not in row["ref"]], "converts": [], "tags": tags}
        if "include_prs" in self.url.query:
            found["pullRequests"] = [row for row in rows if "/pr/" in row["ref"]]
        self.answer(found)

    def discussions(self, _: str) -> None:
        """Those that are closed, one on a page."""
        repo, asked = self.repo(), urllib.parse.parse_qs(self.url.query)
        if not repo.has_discussions:
            raise _Refused(403, "Discussions are disabled for this repo")
        assert (asked["type"], asked["status"]) == (["pull_request"], ["closed"])
        start = int(asked["p"][0])
        rows = [
            {"num": number, "title": "Upload", "status": "closed", "isPullRequest": True, "author": {"name": "me"},
             "createdAt": "2026-01-01T00:00:00.000Z", "repo": {"name": self.key[1], "type": self.key[0]}}
            for number in sorted(repo.closed)
        ]  # fmt: skip
        self.answer({"count": len(rows), "start": start, "discussions": rows[start : start + 1]})

    def tag(self, revision: str) -> None:
        repo, name = self.repo(write=True), self.json()["tag"]
        oid, _ = self.tree_at(repo, revision)
        if name in repo.tags:
            raise _Refused(409, f"Tag {name} exists already")
        repo.tags[name] = oid
        self.answer({})

    def branch(self, name: str) -> None:
        repo = self.repo(write=True)
        if name in repo.refs:
            raise _Refused(409, "Reference already exists")
        repo.refs[name] = repo.refs["main"]
        self.answer({})

    def require_place(self, revision: str) -> Repo:
        """The repository, if a commit may be made there; everybody who sees it may open a pull request."""
        is_pr = "create_pr=1" in self.url.query
        repo = self.repo(write=not is_pr)
        if self.account() is None:
            raise _Refused(401, "Invalid username or password.")
        if revision not in repo.refs:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo

    def preupload(self, revision: str) -> None:
        repo = self.require_place(revision)
        tree, files = repo.trees[repo.refs[revision]], []
        for one in self.json()["files"]:
            is_lfs = one["size"] >= LFS_FROM_BYTES or one["path"].endswith((".safetensors", ".png", ".jpg"))
            found = {"path": one["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            if one["path"] in tree:
                content = tree[one["path"]][0]
                found["oid"] = hashlib.sha256(content).hexdigest() if is_lfs else git_sha1(content)
            files.append(found)
        self.answer({"files": files})

    def lfs_batch(self) -> None:
        self.repo()
        wanted, objects = self.json(), []
        assert wanted["operation"] == "upload", wanted
        for one in wanted["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.storage}/{one['oid']}?signature=secret"},
                "verify": {"href": f"{self.hub.endpoint}/{self.key[1]}.git/info/lfs/verify"},
            }
            objects.append(one | ({} if one["oid"] in self.hub.stored else {"actions": actions}))
        self.answer({"transfer": "basic", "objects": objects})

    def lfs_verify(self) -> None:
        self.account()
        if len(self.hub.stored.get(self.json()["oid"], b"")) != self.json()["size"]:
            raise _Refused(404, "no such object")
        self.answer({})

    def xet_write_token(self, _: str) -> None:
        self.repo(write="create_pr=1" not in self.url.query)
        self.xet_token()

    def xet_read_token(self, _: str) -> None:
        self.repo()
        self.xet_token()

    def xet_token(self) -> None:
        if not self.hub.has_xet:
            self.nothing()
        cas = f"http://127.0.0.1:{self.hub.silent_port}" if self.hub.is_xet_silent else f"local://{self.hub.xet_dir}"
        names = ("X-Xet-Access-Token", "X-Xet-Token-Expiration", "X-Xet-Cas-Url")
        self.answer(
            {"accessToken": "x", "exp": 4_000_000_000, "casUrl": cas},
            headers=dict(zip(names, ("x", "4000000000", cas), strict=True)),
        )

    def commit(self, revision: str) -> None:
        repo = self.require_place(revision)
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        parent = header["value"].get("parentCommit", repo.refs[revision])
        if parent != repo.refs[revision]:
            raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.trees[parent])
        for one in operations:
            self.apply(tree, one["key"], one["value"])
        if "README.md" in tree and (errors := list(_card_errors(tree["README.md"][0].decode(), self.key[0]))):
            raise _Refused(400, errors[0])
        number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
        is_pr = "create_pr=1" in self.url.query
        oid = repo.add(f"refs/pr/{number}" if is_pr else revision, tree, header["value"]["summary"])
        prefix = "" if self.key[0] == "model" else f"{self.key[0]}s/"
        page = f"{self.hub.endpoint}/{prefix}{self.key[1]}"
        pr = {"pullRequestUrl": f"{page}/discussions/{number}"} if is_pr else {}
        self.answer({"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}"} | pr)

    def apply(self, tree: dict[str, tuple[bytes, bool]], key: str, value: dict) -> None:
        if key == "file":
            tree[value["path"]] = (base64.b64decode(value["content"]), False)
        elif key == "deletedFile":
            del tree[value["path"]]
        elif key == "lfsFile":
            content = self.hub.stored.get(value["oid"]) or self.hub.xet_hashes.get(value["oid"], (None, None))[1]
            if content is None or len(content) != value["size"]:
                raise _Refused(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
            tree[value["path"]] = (content, True)
        else:
            raise _Refused(400, f"unknown operation {key}")
        if value["path"] in self.hub.tampered:
            content, is_lfs = tree[value["path"]]
            tree[value["path"]] = (content + b" ", is_lfs)

    def resolve(self, revision: str, file: str) -> None:
        oid, tree = self.tree_at(self.repo(), revision)
        headers = {"X-Repo-Commit": oid}
        if file not in tree:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.answer({"error": "Entry not found"}, 404, headers)
        content, is_lfs = tree[file]
        if not is_lfs:
            return self.answer(content, 200, headers | {"ETag": f'"{git_sha1(content)}"'})
        sha = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-ETag": f'"{sha}"', "X-Linked-Size": str(len(content))}
        if sha in self.hub.xet_hashes and sha not in self.hub.stored:
            route = f"{self.hub.endpoint}/api/{self.key[0]}s/{self.key[1]}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": self.hub.xet_hashes[sha][0], "Link": f'<{route}>; rel="xet-auth"'}
        self.hub.stored.setdefault(sha, content) if sha not in self.hub.xet_hashes else None
        self.answer(b"", 302, headers | {"Location": f"{self.hub.storage}/{sha}?signature=secret"})


def git_sha1(content: bytes) -> str:
    """The id that git gives to content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _card_errors(text: str, repo_type: str):
    """What the Hub says about the front matter of a card."""
    try:
        front = yaml.safe_load(text.split("---\n")[1])
    except (yaml.YAMLError, IndexError) as error:
        yield f"bad YAML: {error}"
        return
    if front.get("license", "unknown") not in LICENSES:
        yield f'"license" must be one of {sorted(LICENSES)}'
    wanted = {"sdk", "app_file", "title"} | ({"sdk_version"} if front.get("sdk") == "gradio" else set())
    if repo_type == "space" and not wanted <= front.keys():
        yield f"a Space needs {sorted(wanted)}"
    for entry in front.get("model-index", []):
        for result in entry["results"]:
            if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]):
                yield "model-index lacks task.type, dataset.type or dataset.name"
            if not all(isinstance(metric["value"], float) and metric["type"] for metric in result["metrics"]):
                yield "model-index has a metric without type or value"
    for dataset in front.get("datasets", []):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
            yield '"datasets" must be names on the Hub'
