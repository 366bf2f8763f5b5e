"""Response time of the library page with 100 000 recordings and 1 000 000 passages: within 1 s after the first request.

python -m benchmarks.library [--recordings N]

The store has no audio, only names, records and rows as the steps write them; of 100 recordings, 1 failed, 1 is silent
and 1 waits.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.machine import describe
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets.embedding import EmbeddingModel, Vectors, Weights
from transcription_assets.media import Probe
from transcription_assets.pipeline.embeddings import PassageOptions, RecordingInfo, rows_of
from transcription_assets.pipeline.failure_notes import FailureNote
from transcription_assets.pipeline.video import Video
from transcription_assets.search.index import Index
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets.web import recordings
from transcription_assets.web.archive import Archive
from transcription_assets.web.library import Library
from transcription_assets.wiring import locate_installed

BAR_S = 1.0
PASSAGES = 10
DIMENSION = 8
AT_ONCE = 10_000
PAGE = 50
ROUNDS = 20
PROBE = Probe(300.0, "mp4", "aac", 48_000, "stereo", "h264", 640, 360, has_picture=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--store", help="one that was filled before: only measure")
    chosen = parser.parse_args()
    if chosen.store:
        return _measure(chosen.store, chosen.recordings)
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fill(Store.open(folder), Path(folder), chosen.recordings)
        again = [sys.executable, "-W", "ignore", "-m", "benchmarks.library", "--store", folder]
        # In a new process, so that the memory used to fill the store is not measured.
        return subprocess.run([*again, "--recordings", str(chosen.recordings)], check=False).returncode


def fill(store: Store, root: Path, number: int) -> None:
    """Write the recordings and what the steps made of them into a store in the folder `root`."""
    for each in range(number):
        _write(root / f"video/{each % 500:03}/talk {each:06}.mp4", "x")
    etags = dict(store.list_media().frame.select("key", "etag").iter_rows())
    done, failed, silent = _shared_out(etags)
    table = Index(store.lancedb_uri)
    for start in range(0, len(done), AT_ONCE):
        part = done[start : start + AT_ONCE]
        table.replace(_rows({key: etags[key] for key in part}), part)
    table.maintain()
    for key in failed:
        note = FailureNote(etags[key], "video", "it cannot be opened", transient=False, at="2026-01-01T00:00:00+00:00")
        _write(root / media_keys.failure(key), json.dumps(asdict(note)))
    for key in silent:
        nothing = Transcript("a", "", 0.0, 1.0, (), Media(key, etags[key]), SpeechModel("none", "1", "int8", "none"))
        _write(root / media_keys.transcript(key), nothing.to_json().decode())
    for key in [*done, *silent]:
        seen = Video(key, etags[key], 1, PROBE, has_poster=True, bytes_read=0)
        _write(root / media_keys.video_record(key), json.dumps(asdict(seen)))
        _write(root / media_keys.passages(key), "")


def _shared_out(found: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the keys of recordings that are done, that failed and that have no speech; the others wait."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for place, key in enumerate(found):
        which = max(place % 100 - 96, 0)
        if which < len(parts):
            parts[which].append(key)
    return parts


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class Unread:
    """Encoder that ignores the texts and returns random vectors."""

    model = EmbeddingModel("synthetic", "1")
    weights = Weights()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return random vectors: shape (len(texts), DIMENSION), unit length."""
        drawn = np.random.default_rng(0).normal(size=(len(texts), DIMENSION)).astype("float32")
        unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    def encode_query(self, text: str) -> Vectors:
        """Return a random vector: shape (DIMENSION,), unit length."""
        only: Vectors = self.encode([text])[0]
        return only


def _rows(etags: Mapping[str, str]) -> pl.DataFrame:
    """Return the passages of one talk, repeated for each media key."""
    sentences = [f"What was said in the half minute number {number}." for number in range(PASSAGES)]
    segments = tuple(
        Segment(number, 30.0 * number, 30.0 * number + 29, said, _words(said, 30.0 * number), -0.2, 0.0, 1.0)
        for number, said in enumerate(sentences)
    )
    transcript = Transcript("a", "en", 1.0, 300.0, segments, Media("a", "a"), SpeechModel("none", "1", "int8", "none"))
    talk = rows_of(transcript, RecordingInfo("talk", date(2026, 1, 1)), Unread(), PassageOptions())
    names = pl.DataFrame({"media_key": [*etags], "media_etag": [*etags.values()]})
    rows = names.join(talk.drop("media_key", "media_etag").with_row_index("number"), how="cross")
    identity = pl.concat_str("media_key", pl.lit("#"), "number")
    vectors = Unread().encode([""] * rows.height)
    return rows.with_columns(identity.alias("id"), vector=vectors).select(talk.columns)


def _words(sentence: str, start: float) -> tuple[Word, ...]:
    return tuple(Word(start + place, start + place + 1, f" {word}", 0.9) for place, word in enumerate(sentence.split()))


def _measure(folder: str, number: int) -> int:
    settings = Settings(store=folder)
    archive = Archive(settings, locate_installed(settings))
    library = Library(archive)
    middle = f"video/000/talk {number // 1000 * 500:06}.mp4"
    before = _memory()
    first = _timed(lambda: _page(library))
    print(f"first page: {first:.2f} s; {library.overview.get().counts}; {_memory() - before:.0f} MB for it")
    again = statistics.median(_timed(lambda: _page(library, name="talk 0123")) for _ in range(ROUNDS))
    offsets = [number // 2 + PAGE * each for each in range(ROUNDS)]
    deep = statistics.median(_timed(partial(_page, library, offset=each)) for each in offsets)
    print(f"a page by name: {again * 1000:.1f} ms; a page from the middle: {deep * 1000:.1f} ms")
    library.overview.now = lambda: float("inf")  # from here on the overview has expired
    stale = _timed(lambda: _page(library))
    one = _timed(lambda: recordings.one(library, middle))
    print(f"with an overview that is too old: a page {stale:.2f} s, one recording {one:.2f} s")
    facets = [_timed(archive.facets.make) for _ in range(3)]
    print(f"what can be filtered by: {', '.join(f'{each:.2f}' for each in facets)} s; {_memory():.0f} MB in all")
    return int(max(again, deep, stale, one) >= BAR_S)


def _page(library: Library, name: str = "", offset: int = 0) -> None:
    recordings.page(library, state=None, name=name, offset=offset, limit=PAGE)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _memory() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
