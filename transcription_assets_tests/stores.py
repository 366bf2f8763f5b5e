"""Stores for tests, in a folder and in a bucket on a real S3 server, and odd names of recordings."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.request import urlopen

from transcription_assets.storage import Store
from transcription_assets_tests import seaweed

ODD_NAMES = {
    "spaces": "video/my talk, final (2) .mp4",
    "umlaut, composed": unicodedata.normalize("NFC", "video/Größe.mp4"),
    "umlaut, decomposed": unicodedata.normalize("NFD", "video/Größe.mp4"),
    "emoji": "video/👩‍👩‍👧🎬.mp4",
    "200 characters": f"video/{'x' * 200}.mp4",
    "dots": "video/wait...what.mp4",
    "leading dot": "video/.hidden.mp4",
    "newline": "video/two\nlines.mp4",
    "delete character": "video/\x7f.mp4",
    "percent": "video/100%.mp4",
    "percent escape": "video/a%20b.mp4",
    "quotes": 'video/"it\'s".mp4',
    "brackets": "video/[a]{b}<c>(d).mp4",
    "number sign": "video/a#1.mp4",
    "folder with number sign": "video/a#1/b.mp4",
    "URL syntax": "video/a?b=c&d=e+f;g~^`|$@!.mp4",
    "same stem, .mp4": "video/ep.mp4",
    "same stem, .MKV": "video/ep.MKV",
    "nested": "audio/a/b/c/ep.wav",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A store, and functions that add and remove files as users do, without the code under test."""

    store: Store
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]


def folder_case(root: Path) -> Case:
    def put(name: str, data: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return Case(Store.open(str(root)), put, lambda name: (root / name).unlink())


prefixes = count()


def bucket_case(server: seaweed.S3Server) -> Case:
    client = server.client()
    prefix = f"my archive/Größe {next(prefixes)}%"

    def put(name: str, data: bytes) -> None:
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/{name}", Body=data)

    def remove(name: str) -> None:
        client.delete_object(Bucket=server.bucket, Key=f"{prefix}/{name}")

    store = Store.open(f"s3://{server.bucket}/{prefix}", s3_session=seaweed.session())
    return Case(store, put, remove)


def content(url: str) -> bytes:
    """Return the bytes that ffmpeg would read."""
    if url.startswith("file:"):
        return Path(url.removeprefix("file:")).read_bytes()
    with urlopen(url) as response:  # noqa: S310 - a URL that the store signed
        return bytes(response.read())


def listed(store: Store) -> list[str]:
    return [str(key) for key in store.list_media().frame["key"]]
