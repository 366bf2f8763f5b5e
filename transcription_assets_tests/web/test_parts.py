"""Parts of the site without a page: highlighting, titles, rate limits, and the `serve` command."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transcription_assets.domain import media_keys
from transcription_assets.search.query import split_highlights
from transcription_assets.web import recordings
from transcription_assets.web.archive import is_media_key
from transcription_assets.web.rate_limit import MOST_VISITORS, RateLimit

PROGRAM = Path(sys.executable).with_name("transcription-assets")
spans = st.tuples(st.integers(-5, 60), st.integers(-5, 60))


@given(text=st.text(max_size=50), sentence=spans, matches=st.lists(spans, max_size=5))
def test_highlighting_does_not_change_the_text(
    text: str, sentence: tuple[int, int], matches: list[tuple[int, int]]
) -> None:
    found = split_highlights(text, sentence, matches)
    assert "".join(part.text for part in found) == text
    marked = [character for part in found if part.sentence for character in part.text]
    assert marked == list(text[max(0, sentence[0]) : max(0, sentence[1])])


def test_matches_are_highlighted_inside_and_outside_the_sentence() -> None:
    found = split_highlights("One bee. Two bees.", (9, 18), [(4, 7), (13, 17)])
    assert [(part.text, part.sentence, part.match) for part in found] == [
        ("One ", False, False),
        ("bee", False, True),
        (". ", False, False),
        ("Two ", True, False),
        ("bees", True, True),
        (".", True, False),
    ]


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=60))
def test_every_recording_has_a_title_and_a_url(name: str) -> None:
    assume(media_keys.is_media(f"video/{name}.mp4"))
    key = media_keys.encode(f"video/{name}.mp4")
    assert is_media_key(key)
    assert recordings.title(key).encode()
    assert recordings.folder(key).encode() is not None
    assert recordings.watch(key, 1.5).isascii()


def test_key_longer_than_any_store_allows_is_rejected() -> None:
    assert is_media_key(f"video/{'a' * 1000}.mp4")
    assert not is_media_key(f"video/{'a' * 60_000}.mp4")


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("video/talks/the-last_train.mp4", "The last train"),
        ("video/A-Z of trains.mp4", "A-Z of trains"),
        ("audio/---.mp3", "---.mp3"),
        ("video/%3Cb%3E.mp4", "<b>"),
    ],
)
def test_titles_are_readable_names(key: str, title: str) -> None:
    assert recordings.title(key) == title


def test_rate_limit_refills_over_time() -> None:
    now = [0.0]
    rate = RateLimit(60, lambda: now[0])
    assert [rate.take("a") for _ in range(61)] == [0] * 60 + [1]
    assert rate.take("b") == 0
    now[0] += 1.0
    assert (rate.take("a"), rate.take("a")) == (0, 1)


def test_rate_limit_remembers_a_bounded_number_of_visitors() -> None:
    rate = RateLimit(1, lambda: 0.0)
    for number in range(MOST_VISITORS + 10):
        rate.take(str(number))
    assert len(rate._left) == MOST_VISITORS  # noqa: SLF001 -- not public


def test_serve_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    environment = {"TRANSCRIPTION_STORE": str(tmp_path), "PYTHONUNBUFFERED": "1", "PATH": ""}
    command = [PROGRAM, "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        address = next(word for word in said.split() if word.startswith("http://"))
        with urlopen(f"{address}/healthz", timeout=30) as answer:  # noqa: S310 -- our own
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in {0, -signal.SIGTERM}


def test_port_in_use_is_an_error_without_a_stack_trace(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [PROGRAM, "serve", "--port", port],
            env={"TRANSCRIPTION_STORE": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert result.returncode == 1
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr
