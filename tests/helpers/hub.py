"""A stand-in for the Hub: repositories in folders, served by the paths and headers that huggingface_hub reads."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, logging


@dataclass
class Hub:
    """Repositories that can be fetched."""

    endpoint: str
    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)
    """OWNER/NAME -> branch or tag -> the folder of its files."""
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Files that were fetched."""

    def add(self, name: str, folder: Path, revision: str = "main") -> str:
        """Put a revision into a repository; returns its commit."""
        self.repositories.setdefault(name, {})[revision] = folder
        return commit_of(folder)


def commit_of(folder: Path) -> str:
    return hashlib.sha1(str(folder).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        of_api = parts[:2] == ["api", "models"]
        parts = parts[2 * of_api :]
        owner, name, what, *rest = parts if len(parts) > 2 else [*parts, "revision", "main"]
        repository = f"{owner}/{name}"
        revisions = self.hub.repositories.get(repository)
        if revisions is None:
            return self.refuse(404, "RepoNotFound")
        if repository in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        folder = {**revisions, **{commit_of(place): place for place in revisions.values()}}.get(rest[0])
        if folder is None:
            return self.refuse(404, "RevisionNotFound")
        files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
        if of_api and what == "revision":
            return self.answer(json.dumps({"id": repository, "sha": commit_of(folder), "siblings": []}).encode())
        if of_api:
            tree = [{"type": "file", "path": p, "size": f.stat().st_size, "oid": "0" * 40} for p, f in files.items()]
            return self.answer(json.dumps(tree).encode())
        if (file := files.get("/".join(rest[1:]))) is None:
            return self.refuse(404, "EntryNotFound")
        if self.command == "GET":
            self.hub.asked.append(file.name)
        content = file.read_bytes()
        tag = hashlib.sha1(content).hexdigest()
        return self.answer(content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit_of(folder)})

    def refuse(self, status: int, code: str) -> None:
        self.answer(b"{}", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def answer(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serving(cache: Path) -> Iterator[Hub]:
    """Within it huggingface_hub asks the stand-in, and keeps what it fetches in `cache`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    _Handler.hub = hub = Hub(endpoint)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    disable_progress_bars()  # as the command does
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub
    enable_progress_bars()
    logging.set_verbosity(said)
    server.shutdown()
    server.server_close()
