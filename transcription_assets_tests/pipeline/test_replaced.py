"""Recordings that are replaced, renamed or copied: which artefacts change, and what is transcribed again."""

import dataclasses
import json
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.pipeline import audio, transcript
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain, of, recording, sentences
from transcription_assets_tests.stores import Case, folder_case

KEY = "audio/talks/a.wav"


def test_new_passages_replace_old_ones_in_one_table_version(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 60))
    case.put("audio/other.wav", recording(tmp_path, 20))
    chain.run(KEY, "audio/other.wav")
    first = case.store.stat(KEY).etag
    # First shorter, so that some ids of the old version have no successor; then longer.
    for seconds in (30, 45):
        case.put(KEY, recording(tmp_path, seconds))
        chain.run(KEY)
    assert case.store.stat(KEY).etag != first
    table = chain.table()
    seen = []
    # Version 1 is empty; version 2 adds the full-text index.
    for version in range(3, table.version + 1):
        table.checkout(version)
        rows = of(table)
        own = rows.filter(pl.col("media_key") == KEY)
        assert rows["id"].is_duplicated().sum() == 0
        assert own["media_etag"].n_unique() == 1
        assert rows.filter(pl.col("media_key") == "audio/other.wav").height == len(sentences(20))
        seen.append(own.height)
    # Maintenance also creates versions, with the same rows.
    assert [count for count, _ in groupby(seen)] == [len(sentences(seconds)) for seconds in (60, 30, 45)]


def test_replaced_recording_updates_every_artefact(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 60))
    chain.run(KEY)
    case.put(KEY, recording(tmp_path, 30))
    report = chain.run(KEY)
    etag = case.store.stat(KEY).etag
    assert report.done == [KEY]
    assert chain.engine.decoded == [60, 30]
    assert json.loads(case.store.read(media_keys.video_record(KEY)))["etag"] == etag
    assert json.loads(case.store.read(media_keys.audio_record(KEY)))["etag"] == etag
    assert json.loads(case.store.read(media_keys.transcript(KEY)))["media"]["etag"] == etag
    assert case.store.read(media_keys.transcript(KEY, ".txt")).decode().splitlines() == sentences(30)
    assert chain.rows()["media_etag"].unique().to_list() == [etag]


@pytest.mark.parametrize("name", ["audio/renamed.wav", "audio/b/a.wav", "video/a.wav"])
def test_copy_reuses_transcript_and_gets_own_files_and_rows(case: Case, tmp_path: Path, name: str) -> None:
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    case.put(name, recording(tmp_path, 30))
    chain.run(name)
    assert chain.engine.decoded == [30]
    original, copy = (transcript.load(case.store, key) for key in (KEY, name))
    assert original
    assert copy
    assert copy.segments == original.segments
    assert copy.filename == name.rpartition("/")[2]
    assert (copy.media.key, copy.media.etag) == (name, case.store.stat(name).etag)
    assert (copy.reused_from, original.reused_from) == (KEY, "")
    for suffix in (".txt", ".srt", ".vtt"):
        assert case.store.read(media_keys.transcript(name, suffix)) == case.store.read(
            media_keys.transcript(KEY, suffix)
        )
    assert len(chain.ids(name)) == len(chain.ids(KEY)) == len(sentences(30))


def test_renamed_recording_is_not_transcribed_again(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    case.remove(KEY)
    for name in ("audio/b.wav", "audio/c.wav"):
        case.put(name, recording(tmp_path, 30))
        chain.run(name)
        # Artefacts of the old name may be deleted as soon as the new name has its own.
        case.store.delete(*media_keys.artefacts(KEY if name == "audio/b.wav" else "audio/b.wav"))
    assert chain.engine.decoded == [30]


def test_stale_transcript_pointer_is_not_followed(case: Case, tmp_path: Path) -> None:
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    case.store.delete(media_keys.transcript(KEY))
    case.put("audio/b.wav", recording(tmp_path, 30))
    chain.run("audio/b.wav")
    assert chain.engine.decoded == [30, 30]
    case.put("audio/b.wav", recording(tmp_path, 20))
    chain.run("audio/b.wav")
    case.put("audio/c.wav", recording(tmp_path, 30))
    chain.run("audio/c.wav")
    assert chain.engine.decoded == [30, 30, 20, 30]


def test_transcript_of_other_model_or_options_is_not_reused(tmp_path: Path) -> None:
    case = folder_case(tmp_path / "store")
    chain = Chain(case.store)
    for name in ("audio/a.wav", "audio/b.wav", "audio/c.wav"):
        case.put(name, recording(tmp_path, 30))
    chain.run("audio/a.wav")
    better = Chain(case.store)
    better.engine.model = dataclasses.replace(chain.engine.model, revision="2")
    better.run("audio/b.wav")
    assert better.engine.decoded == [30]
    other = Chain(case.store)
    other.engine.options = dataclasses.replace(chain.engine.options, beam_size=1)
    other.run("audio/c.wav")
    assert other.engine.decoded == [30]


def test_remuxed_audio_reuses_the_transcript(tmp_path: Path) -> None:
    case = folder_case(tmp_path / "store")
    chain = Chain(case.store)
    film = recordings.video(tmp_path / "film.mp4", 10)
    remuxed = recordings.make(tmp_path / "film.mkv", "-i", str(film), "-c", "copy")
    loud = recordings.make(tmp_path / "loud.mp4", "-i", str(film), "-af", "volume=2", "-c:v", "copy")
    for path in (film, remuxed, loud):
        case.put(f"video/{path.name}", path.read_bytes())
    chain.run("video/film.mp4", "video/film.mkv")
    assert chain.engine.decoded == [10]
    chain.run("video/loud.mp4")
    assert chain.engine.decoded == [10, 10]
    sounds = [audio.load(case.store, f"video/{name}") for name in ("film.mp4", "film.mkv", "loud.mp4")]
    assert [sound.sha256 == sounds[0].sha256 for sound in sounds if sound and sounds[0]] == [True, True, False]


def test_touched_file_is_not_transcribed_again(tmp_path: Path) -> None:
    case = folder_case(tmp_path / "store")
    chain = Chain(case.store)
    case.put(KEY, recording(tmp_path, 30))
    chain.run(KEY)
    before = case.store.stat(KEY).etag
    (tmp_path / "store" / KEY).touch()
    chain.run(KEY)
    assert case.store.stat(KEY).etag != before
    assert chain.engine.decoded == [30]
    assert chain.rows()["media_etag"].unique().to_list() == [case.store.stat(KEY).etag]
