"""Rows of the library are independent: a damaged recording is shown in its row and does not hide others."""

from pathlib import Path

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.text import printable
from transcription_assets.errors import PermanentFailure
from transcription_assets.storage import Store
from transcription_assets.web import library
from transcription_assets.web.recordings import folder, title
from transcription_assets_tests import recordings, served
from transcription_assets_tests.chain import Chain

GOOD = "audio/good.wav"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(str(tmp_path / "store"))
    made.put_media(GOOD, recordings.tone(tmp_path / "good.wav", 5.0, rate=8_000))
    return made


def shown(store: Store) -> dict[str, dict[str, str]]:
    with served.client(served.archive(store)) as page:
        answer = page.get("/api/media")
        assert answer.status_code == 200, answer.text
        assert page.get(f"/api/media/{GOOD}").status_code == 200
    return {item["key"]: item for item in answer.json()["recordings"]}


@pytest.mark.parametrize("length", [250, 251, 253, 255])
def test_longest_possible_file_names_are_processed(store: Store, tmp_path: Path, length: int) -> None:
    long = f"audio/{'n' * (length - 4)}.wav"
    store.put_media(long, tmp_path / "good.wav")
    report = Chain(store).attempt(GOOD, long)
    assert sorted(report.done) == sorted([GOOD, long])
    rows = shown(store)
    assert rows[GOOD]["state"] == rows[long]["state"] == "done"


def test_folder_in_place_of_a_record_fails_only_its_recording(store: Store, tmp_path: Path) -> None:
    clash, inner = "audio/q.wav", "audio/q.wav.json/inner.wav"
    for name in (clash, inner):
        store.put_media(name, tmp_path / "good.wav")
    for artefact in (media_keys.failure(inner), media_keys.video_record(inner), media_keys.transcript(inner)):
        store.write(artefact, b"{}")
    report = Chain(store).attempt(GOOD, inner, clash)
    assert sorted(report.done) == [GOOD, inner]
    assert list(report.failed) == [clash]
    rows = shown(store)
    assert {key: row["state"] for key, row in rows.items()} == {GOOD: "done", inner: "done", clash: "failed"}
    assert rows[clash]["reason"]


@pytest.mark.parametrize(
    "damaged", [b"[]", b"{", b'{"version": "1", "etag": 7}', b'{"version": "1", "at": []}'], ids=str
)
def test_damaged_records_leave_the_row_in_the_library(store: Store, damaged: bytes) -> None:
    for path in (media_keys.failure(GOOD), media_keys.video_record(GOOD), media_keys.audio_record(GOOD)):
        store.write(path, damaged)
    assert shown(store)[GOOD]["state"] in {"waiting", "working"}


def test_titles_contain_no_control_characters() -> None:
    acting = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028)]
    assert printable("".join(["a", *acting, "b"])) == "ab"
    assert printable("caf\udce9 é\N{ZERO WIDTH JOINER}") == "caf? é\N{ZERO WIDTH JOINER}"
    assert title(media_keys.encode("video/a\x9bb\x85.mp4")) == "Ab"
    assert folder(media_keys.encode("video/a\x9b2J/b.mp4")) == "a2J"


def test_unreadable_records_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(key: str) -> str:
        tried.append(key)
        if key < "c":
            raise PermanentFailure(f"{key}: damaged")
        return key

    monkeypatch.setattr(library, "MOST_READ", 2)
    tried: list[str] = []
    readings = library.RecordReader(read)
    versions = dict.fromkeys("abcdef", "1")
    for _ in range(3):
        found = readings.of(versions)
    assert sorted(tried) == list(versions)
    assert {key for key, value in found.items() if isinstance(value, PermanentFailure)} == {"a", "b"}
    assert {key: found[key] for key in "cdef"} == dict(zip("cdef", "cdef", strict=True))
    readings.of(versions)
    assert tried[6:] == ["a", "b"], "only unreadable records are read again"
    readings.of(versions | {"f": "2"})
    assert tried[8:] == ["f", "a"], "a new version comes first"
    assert set(readings.of({"b": "1"})) == {"b"}


def test_every_recording_without_a_writable_note_is_listed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "MOST_READ", 1)
    monkeypatch.setattr("transcription_assets.web.library.FRESH_S", 0.0)
    clashes = [f"audio/{name}.wav" for name in "pqr"]
    for key in clashes:
        store.put_media(key, tmp_path / "good.wav")
        store.put_media(f"{key}.json/inner.wav", tmp_path / "good.wav")
        store.write(media_keys.failure(f"{key}.json/inner.wav"), b"{}")
    shelf = library.Library(served.archive(store))
    for _ in clashes:
        found = shelf.overview.make()
    assert set(found.notes) == set(clashes)
