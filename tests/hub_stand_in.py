"""A server that speaks the few routes of the Hugging Face hub that models come and go by."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """A model: its commits, each with all of its files, the last one under ``main``."""

    private: bool = False
    gated: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=list)
    branches: dict[str, int] = field(default_factory=dict)

    def sha(self, number: int) -> str:
        return hashlib.sha1(f"{id(self)} {number}".encode()).hexdigest()

    def commit_of(self, revision: str) -> int | None:
        if revision == "main":
            return len(self.commits) - 1
        if revision in self.branches:
            return self.branches[revision]
        found = [n for n in range(len(self.commits)) if self.sha(n) == revision]
        return found[0] if found else None


class StandIn(ThreadingHTTPServer):
    """The server, on a port of its own; what it was asked is in ``asked``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.models: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.stated_sizes: dict[str, int] = {}  # of a file, what is said of it
        self.address = f"http://127.0.0.1:{self.server_port}"

    def put(self, name: str, files: dict[str, bytes], **about: Any) -> Repository:
        model = self.models.setdefault(name, Repository(**about))
        model.commits.append(files)
        return model

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Routes(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_HEAD

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        knows = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups(), knows)
        elif path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create" and self.command == "POST":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            page = {"url": f"{self.server.address}/{name}"}
            if not knows:
                self._json(401, {"error": "Invalid credentials"})
            elif name in self.server.models:
                self._json(409, {**page, "error": "You already created this model repo"})
            else:
                private = asked.get("visibility") == "private" or asked.get("private") is True
                self.server.put(name, {}, private=private)
                self._json(200, page)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            name, what = match.groups()
            if not knows or name.startswith("other/"):
                self._json(403, {"error": "Forbidden"})
            elif what == "preupload":
                paths = [file["path"] for file in json.loads(body)["files"]]
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self._json(200, {"files": [{"path": path, **how} for path in paths]})
            else:
                self._commit(name, body)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(/revision/main)?", path):
            model = self.server.models.get(match[1])
            if model is None or (model.private and not knows):
                self._empty(401 if not knows else 404, "RepoNotFound")
                return
            sha = model.sha(len(model.commits) - 1)
            self._json(200, {"id": match[1], "private": model.private, "sha": sha, "siblings": []})
        else:
            self._json(404, {"error": f"no route {path}"})

    def _commit(self, name: str, body: bytes) -> None:
        model = self.server.models[name]
        files = dict(model.commits[-1])
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        model.commits.append(files)
        sha = model.sha(len(model.commits) - 1)
        page = f"{self.server.address}/{name}/commit/{sha}"
        self._json(200, {"commitOid": sha, "commitUrl": page})

    def _file(self, name: str, revision: str, path: str, knows: bool) -> None:
        model = self.server.models.get(name)
        if model is None or (model.private and not knows):
            self._empty(401 if not knows else 404, "RepoNotFound")
            return
        if model.gated and not knows:
            self._empty(403, "GatedRepo")
            return
        number = model.commit_of(revision)
        if number is None:
            self._empty(404, "RevisionNotFound")
            return
        content = model.commits[number].get(path)
        about = {"X-Repo-Commit": model.sha(number)}
        if content is None:
            self._empty(404, "EntryNotFound", about)
            return
        self.send_response(200)
        size = self.server.stated_sizes.get(path, len(content))
        about["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        for key, value in {**about, "Content-Length": str(size)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _empty(self, code: int, error: str, about: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {**(about or {}), "X-Error-Code": error, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def _json(self, code: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
