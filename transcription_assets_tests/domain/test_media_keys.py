import os

import obstore
import pytest
from dagster._core.definitions.partitions.utils.base import (
    raise_error_on_invalid_partition_key_substring,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from transcription_assets.domain import media_keys

odd_text = st.text(st.sampled_from("ab/. ,%'2C\n\t\x7f\x85é\u0301\u2028\ufeff[]{}<>*\\\"#+&"), max_size=16)
names = st.one_of(st.text(), odd_text, st.binary().map(os.fsdecode))
plain_names = st.from_regex(r"(video|audio)(/[\w\-+=&#(!~][\w\-+=&#()!~ ]{0,8}[\w)])+\.mp4", fullmatch=True)
bucket = MemoryStore()


@given(names)
@settings(max_examples=200)
def test_every_name_round_trips_through_its_key(name: str) -> None:
    assert media_keys.decode(media_keys.encode(name)) == name


@given(names, names)
@settings(max_examples=200)
def test_two_names_never_share_a_key(a: str, b: str) -> None:
    assert (media_keys.encode(a) == media_keys.encode(b)) == (a == b)
    assert media_keys.encode(media_keys.encode(a)) != media_keys.encode(a) or media_keys.encode(a) == a


@given(names)
@settings(max_examples=200)
def test_every_key_is_a_valid_printable_partition_key(name: str) -> None:
    key = media_keys.encode(name)
    raise_error_on_invalid_partition_key_substring([key])
    assert "," not in key
    assert key == key.strip()
    assert len(key.splitlines()) <= 1
    key.encode()


@given(names.filter(bool))
@settings(max_examples=200)
def test_every_artefact_path_is_valid_and_unchanged_by_the_store(name: str) -> None:
    key = media_keys.encode(name)
    for path in (
        media_keys.flac(key),
        media_keys.transcript(key, ".vtt"),
        media_keys.passages(key),
        media_keys.poster(key),
    ):
        obstore.put(bucket, path, b"")
        assert obstore.head(bucket, path)["path"] == path


@given(plain_names)
@settings(max_examples=100)
def test_plain_names_stay_readable(name: str) -> None:
    assert media_keys.encode(name) == name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("video/talks/2024/a.mp4", "video/talks/2024/a.mp4"),
        ("video/Größe (2019) #1 & more.mp4", "video/Größe (2019) #1 & more.mp4"),
        ("video/e\u0301.mp4", "video/e\u0301.mp4"),
        ("video/100%.mp4", "video/100%25.mp4"),
        ("video/a,b.mp4", "video/a%2Cb.mp4"),
        ("video/wait...what.mp4", "video/wait%2E%2E%2Ewhat.mp4"),
        ("video/.hidden.mp4", "video/%2Ehidden.mp4"),
        ("video/a /b.mp4", "video/a%20/b.mp4"),
        ("video/a\nb.mp4", "video/a%0Ab.mp4"),
        ("video//a.mp4", "video/%2Fa.mp4"),
        ("video/../a.mp4", "video/%2E%2E/a.mp4"),
        ("video/\udcff.mp4", "video/%FF.mp4"),
        ('video/"[a]".mp4', "video/%22%5Ba%5D%22.mp4"),
    ],
)
def test_only_unsafe_characters_are_encoded(name: str, key: str) -> None:
    assert media_keys.encode(name) == key
    assert media_keys.decode(key) == name


def test_invalid_escapes_in_a_key_are_left_unchanged() -> None:
    assert media_keys.decode("video/100%.mp4") == "video/100%.mp4"
    assert media_keys.decode("video/%zz%2c.mp4") == "video/%zz%2c.mp4"


@pytest.mark.parametrize(
    "name", ["video/a.mp4", "video/A.MP4", "audio/x/y.Flac", "video/.hidden.mkv", "video/a...b.mov"]
)
def test_media_suffixes_are_case_insensitive(name: str) -> None:
    assert media_keys.is_media(name)


@pytest.mark.parametrize(
    "name",
    [
        "video/a.txt",
        "video/.DS_Store",
        "video/a.mp4.part",
        "video/._a.mp4",
        "video/mp4",
        "video/.mp4",
        "video/",
    ],
)
def test_other_files_are_not_media(name: str) -> None:
    assert not media_keys.is_media(name)


def test_recordings_with_the_same_stem_share_no_artefact() -> None:
    names = ["video/ep.mp4", "video/ep.mkv", "video/a/ep.mp4", "video/b/ep.mp4", "audio/ep.mp4"]
    paths = [
        path
        for key in map(media_keys.encode, names)
        for path in (
            media_keys.flac(key),
            media_keys.audio_record(key),
            media_keys.video_record(key),
            media_keys.poster(key),
            media_keys.passages(key),
            *(media_keys.transcript(key, suffix) for suffix in (".json", ".txt", ".srt", ".vtt")),
        )
    ]
    assert len(set(paths)) == len(paths) == 9 * len(names)
