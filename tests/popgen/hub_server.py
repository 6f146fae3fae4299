"""A small Hugging Face hub on this machine: the part of its HTTP API that pushing and fetching models takes.

The real client talks to it by its own setting, the environment variable HF_ENDPOINT. Files from LFS_BYTES on go by git
LFS's batch protocol, smaller ones stand in the commit itself, as on the hub. Everything is kept in memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "w" * 34  # the token of ann, who may write
LFS_BYTES = 1000
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Repository:
    """Commits by their hash, each with the contents of its files, and the branches."""

    is_private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Make a commit of these files alone, and let the branch point at it."""
        text = json.dumps([len(self.commits), branch, sorted((p, oid_of(c)) for p, c in files.items())])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def find(self, revision: str) -> str | None:
        """The commit of a branch, or the commit itself."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """The repositories, what was uploaded for them, the requests so far, and a refusal for tests of errors."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    # Status and message that requests to write are answered with, those whose path has the third.
    refusal: tuple[int, str, str] | None = None

    def environment(self, cache: Any, token: str | None = TOKEN) -> dict[str, str]:
        """The variables under which the client talks to this hub and to no other."""
        found = {"HF_ENDPOINT": self.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        return found | ({} if token is None else {"HF_TOKEN": token})


def oid_of(content: bytes) -> str:
    """The hash by which the hub knows a file: git's own of a small one, SHA-256 of a large one."""
    if len(content) >= LFS_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()

    class Bound(_Handler):
        state = hub

    server = _Server(("127.0.0.1", 0), Bound)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


class _Server(ThreadingHTTPServer):
    """A server that ends open connections when it stops, which clients otherwise keep for their next request."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._connections: list[socket.socket] = []
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        for connection in self._connections:
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request. A route is a method and a pattern of the path."""

    state: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.state.requests.append(f"{self.command} {path}")
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                refusal = self.state.refusal
                if verb == "POST" and refusal and refusal[2] in path:
                    self._fail(*refusal[:2])
                elif verb == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self._fail(401, "Invalid username or password.")
                else:
                    action(self, **{key: unquote(value) for key, value in match.groupdict().items() if value})
                return
        self._fail(404, f"no such route: {path}")

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}, status)

    def _fail(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._json({"error": message}, status, headers)

    def _found(self, repo: str, revision: str = "main") -> tuple[Repository, str] | None:
        """The repository and the commit, or None after an error was sent, as the hub sends it."""
        found = self.state.repositories.get(repo)
        may_read = found is not None and (
            not found.is_private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        if found is None or not may_read:  # the hub does not say which of the two it is
            self._fail(401, "Repository Not Found", "RepoNotFound")
            return None
        commit = found.find(revision)
        if commit is None:
            self._fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return found, commit

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'ann'}/{asked['name']}"
        if name in self.state.repositories:
            self._json({"error": "You already created this model repo", "url": f"{self.state.address}/{name}"}, 409)
            return
        made = self.state.repositories[name] = Repository(
            bool(asked.get("private")) or asked.get("visibility") == "private"
        )
        made.commit("main", {})
        self._json({"url": f"{self.state.address}/{name}", "name": name})

    def branch(self, repo: str, revision: str) -> None:
        found = self._found(repo)
        if found is None:
            return
        repository, main = found
        if revision in repository.branches:
            self._fail(409, "Reference already exists")
            return
        repository.branches[revision] = main
        self._json({})

    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        if self._found(repo, revision) is None:
            return
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["size"] >= LFS_BYTES else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(self.body)["files"]
        ]
        self._json({"files": files})

    def lfs_batch(self, repo: str) -> None:  # noqa: ARG002 - routes of a repository have it
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.state.address}/lfs/{one['oid']}", "header": {}}
            actions = {} if one["oid"] in self.state.uploads else {"actions": {"upload": upload}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._send(answer, {"Content-Type": "application/vnd.git-lfs+json"})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._fail(422, "the content does not have its hash")
            return
        self.state.uploads[oid] = self.body
        self._send(b"", {})

    def commit(self, repo: str, revision: str) -> None:
        found = self._found(repo, revision)
        if found is None:
            return
        repository, before = found
        files = dict(repository.commits[before])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(revision, files)
        url = f"{self.state.address}/{repo}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def info(self, repo: str, revision: str = "main") -> None:
        found = self._found(repo, revision)
        if found is not None:
            repository, commit = found
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            facts = {"id": repo, "modelId": repo, "private": repository.is_private, "tags": [], "downloads": 0}
            self._json({**facts, "sha": commit, "siblings": siblings})

    def tree(self, repo: str, revision: str) -> None:
        found = self._found(repo, revision)
        if found is None:
            return
        repository, commit = found
        entries = []
        for path, content in repository.commits[commit].items():
            oid = oid_of(content)
            lfs = {"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}} if len(oid) == 64 else {}
            entries.append({"type": "file", "oid": oid[:40], "size": len(content), "path": path, **lfs})
        self._json(entries)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        found = self._found(repo, revision)
        if found is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(path)
        if content is None:
            self._fail(404, "Entry not found", "EntryNotFound")
            return
        self._send(content, {"ETag": f'"{oid_of(content)}"', "X-Repo-Commit": commit})


_ROUTES = (
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<revision>[^/]+)", _Handler.branch),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("GET", rf"/api/models/{_REPO}(/revision/(?P<revision>[^/]+))?", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
)
