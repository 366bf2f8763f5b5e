"""The engine for speech services against a real HTTP server that answers as scripted, also with lies."""

import email.parser
import email.policy
import io
import json
import math
import threading
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from transcription_assets import service_client
from transcription_assets.domain.chunking import Region
from transcription_assets.errors import PermanentFailure, Refused, TransientFailure
from transcription_assets.service_client import NoAnswer, ServiceClient
from transcription_assets.speech import (
    SAMPLE_RATE,
    DecodedWindow,
    PlannedWindow,
    ServiceEngine,
    SpeechOptions,
    WindowTask,
)
from transcription_assets.speech.service import BUSY, FAILED_WINDOWS, MOST_BYTES, answer_of
from transcription_assets_tests.serving import answering

KEY = "sk-very-secret"
Answer = tuple[int, bytes]


@dataclass
class Asked:
    """The fields of a request, its path, its key, and the seconds of its sound."""

    fields: dict[str, list[str]]
    path: str
    key: str
    seconds: float


@dataclass
class Service:
    """STAND-IN for a speech service: the answer to a request is that of `respond`."""

    url: str = ""
    respond: Callable[[Asked], Answer] = lambda _asked: (200, json.dumps({"text": "hello"}).encode())
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = parsed(self.headers["Content-Type"], body, self.path, self.headers.get("Authorization", ""))
            with made.lock:
                made.asked.append(asked)
                status, data = made.respond(asked)
            self.send_response(status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        made.url = f"{address}/v1"
        yield made


def parsed(kind: str, body: bytes, path: str, key: str) -> Asked:
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields: dict[str, list[str]] = {}
    seconds = 0.0
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if name == "file":
            with wave.open(io.BytesIO(content)) as sound:
                seconds = sound.getnframes() / sound.getframerate()
        else:
            fields.setdefault(name, []).append(content.decode())
    return Asked(fields, path, key, seconds)


def engine(service: Service, **changes: Any) -> ServiceEngine:
    client = ServiceClient(service.url, "speech", key=KEY, most_bytes=MOST_BYTES, sleep=lambda _s: None)
    return ServiceEngine(client, "some-model", **changes)


def window(*regions: tuple[float, float], recording: str = "a", start: float = 0.0, length: float = 40.0) -> WindowTask:
    """Return a window with a loud tone in these regions."""
    samples = np.zeros(int(length * SAMPLE_RATE), np.float32)
    for first, last in regions:
        span = slice(int(first * SAMPLE_RATE), int(last * SAMPLE_RATE))
        samples[span] = 0.5 * np.sin(np.arange(span.stop - span.start) / 5)
    voiced = tuple(Region(*region) for region in regions)
    return WindowTask(recording, PlannedWindow(start, start + length, voiced), samples, ())


def replying(**document: Any) -> Callable[[Asked], Answer]:
    return lambda _asked: (200, json.dumps(document).encode())


def decoded(answer: DecodedWindow | Exception) -> DecodedWindow:
    assert isinstance(answer, DecodedWindow), answer
    return answer


def words(answer: DecodedWindow | Exception) -> list[tuple[float, float, str]]:
    found = decoded(answer).segments
    return [(round(word.start, 2), round(word.end, 2), word.word) for item in found for word in item.words]


SAID = [{"word": "hello", "start": 0.4, "end": 0.8}, {"word": "world", "start": 1.0, "end": 1.6}]


def test_words_have_the_times_of_the_recording(service: Service) -> None:
    service.respond = replying(text="Hello world.", words=SAID, language="english")
    (answer,) = engine(service).decode([window((10.0, 12.0), start=100.0)])
    assert words(answer) == [(110.4, 110.8, " Hello"), (111.0, 111.6, " world.")]
    found = decoded(answer)
    assert [(item.language, item.estimated_times, item.low_confidence) for item in found.segments] == [
        ("en", False, "")
    ]
    assert found.languages == {"en": 2.0}


def test_each_chunk_is_a_request_with_all_options(service: Service) -> None:
    made = engine(service, options=SpeechOptions(language="de"))
    task = window((0.0, 2.0), (20.0, 22.5))
    made.decode([WindowTask(task.recording, task.plan, task.samples, ("Isar", "Anna"))])
    assert sorted(asked.seconds for asked in service.asked) == [2.0, 2.5]
    (fields,) = {json.dumps(asked.fields, sort_keys=True) for asked in service.asked}
    assert json.loads(fields) == {
        "model": ["some-model"],
        "language": ["de"],
        "prompt": ["Isar, Anna"],
        "response_format": ["verbose_json"],
        "temperature": ["0"],
        "timestamp_granularities[]": ["word", "segment"],
    }
    assert {asked.path for asked in service.asked} == {"/v1/audio/transcriptions"}
    assert {asked.key for asked in service.asked} == {f"Bearer {KEY}"}


def test_translations_have_a_path_of_their_own(service: Service) -> None:
    engine(service, options=SpeechOptions(language="de", task="translate")).decode([window((0.0, 2.0))])
    assert [asked.path for asked in service.asked] == ["/v1/audio/translations"]
    assert "language" not in service.asked[0].fields


def test_short_chunks_get_the_language_of_the_long_ones(service: Service) -> None:
    service.respond = replying(text="Guten Tag.", language="german")
    engine(service).decode([window((0.0, 9.0), (20.0, 21.0))])
    assert [asked.fields.get("language") for asked in service.asked if asked.seconds == 1.0] == [["de"]]
    assert next(asked.fields.get("language") for asked in service.asked if asked.seconds > 6) is None


def test_a_text_without_times_is_marked_as_estimated(service: Service) -> None:
    service.respond = replying(text="aa bb")
    (answer,) = engine(service).decode([window((10.0, 12.0))])
    assert words(answer) == [(10.0, 11.0, " aa"), (11.0, 12.0, " bb")]
    assert [item.estimated_times for item in decoded(answer).segments] == [True]


@pytest.mark.parametrize(
    "stated",
    [
        [{"word": "aa", "start": 500.0, "end": 501.0}, {"word": "bb", "start": 501.0, "end": 502.0}],
        [{"word": "aa", "start": math.nan, "end": 1.0}],
        [{"word": "aa", "start": "0", "end": None}],
        [{"word": "aa", "start": 10**400, "end": 1}],
        ["aa", None, 7],
        {"word": "aa"},
    ],
    ids=["outside", "nan", "types", "huge", "no objects", "no list"],
)
def test_impossible_words_are_placed_in_the_voice(service: Service, stated: object) -> None:
    service.respond = replying(text="aa bb", words=stated)
    (answer,) = engine(service).decode([window((10.0, 12.0))])
    assert words(answer) == [(10.0, 11.0, " aa"), (11.0, 12.0, " bb")]
    assert [item.estimated_times for item in decoded(answer).segments] == [True]


@pytest.mark.parametrize("moment", [0.0, 0.01], ids=["zero length", "one moment"])
def test_collapsed_times_do_not_repeat_the_speech(service: Service, moment: float) -> None:
    text = "one two three four five six seven eight"
    stated = [
        {"word": word, "start": 0.1 + number * moment, "end": 0.1 + (number + 1) * moment}
        for number, word in enumerate(text.split())
    ]
    stated[-1]["end"] = 0.3
    service.respond = replying(text=text, words=stated)
    (answer,) = engine(service).decode([window((0.0, 8.0))])
    assert [word for _, _, word in words(answer)] == [f" {word}" for word in text.split()]
    assert len(service.asked) == 1


def test_a_loop_is_asked_again_and_marked(service: Service) -> None:
    service.respond = replying(text="no no no " * 30)
    (answer,) = engine(service).decode([window((0.0, 9.0))])
    assert {item.low_confidence for item in decoded(answer).segments} == {"loop"}
    assert {asked.fields["temperature"][0] for asked in service.asked} == {"0", "0.4"}


@pytest.mark.parametrize(
    ("stated", "logprob"),
    [(-0.5, -0.5), (5, 0.0), (1e308, 0.0), (-1e308, -100.0), (math.nan, 0.0), ("-1", 0.0), (True, 0.0), (None, 0.0)],
    ids=str,
)
def test_an_impossible_logprob_is_not_stated(stated: object, logprob: float) -> None:
    segments = [{"text": "aa", "avg_logprob": stated}]
    assert answer_of({"text": "aa", "segments": segments}).avg_logprob == logprob


@pytest.mark.parametrize("stated", [37, -0.1, 1e308, math.inf, "0.9", [1]], ids=str)
def test_an_impossible_probability_is_not_stated(stated: object) -> None:
    said = answer_of(
        {
            "text": "aa",
            "segments": [{"text": "aa", "no_speech_prob": stated}, {"text": "aa", "no_speech_prob": 0.25}],
            "words": [{"word": "aa", "start": 0, "end": 1, "probability": stated}],
        }
    )
    assert (said.no_speech_prob, said.words[0].probability) == (0.25, 0.0)


def test_a_silent_answer_leaves_a_gap(service: Service) -> None:
    service.respond = replying(text="")
    (answer,) = engine(service).decode([window((0.0, 9.0))])
    assert decoded(answer).segments == ()
    assert decoded(answer).voiced == (Region(0.0, 9.0),)


@pytest.mark.parametrize("status", [400, 415, 422])
def test_a_service_without_details_is_asked_for_less(service: Service, status: int) -> None:
    def respond(asked: Asked) -> Answer:
        only_json = asked.fields["response_format"] == ["json"]
        return (200, b'{"text": "aa bb"}') if only_json else (status, b'{"error": "no verbose_json"}')

    service.respond = respond
    made = engine(service, requests=1)
    made.decode([window((0.0, 2.0))])
    assert len(service.asked) == 3
    made.decode([window((0.0, 2.0))])
    assert len(service.asked) == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_ends_all_requests(service: Service, status: int) -> None:
    service.respond = lambda _asked: (status, f"wrong key {KEY}".encode())
    answers = engine(service, requests=1).decode([window((0.0, 2.0), recording=name) for name in "abcdef"])
    assert [type(answer) for answer in answers] == [service_client.Rejected] * 6
    assert all(isinstance(answer, Refused) and KEY not in str(answer) for answer in answers)
    assert len(service.asked) == 1


def test_a_rejected_chunk_fails_its_window_only(service: Service) -> None:
    service.respond = lambda asked: (400, b"bad audio") if asked.seconds > 3 else (200, b'{"text": "aa"}')
    bad, good = engine(service).decode([window((0.0, 4.0)), window((0.0, 2.0), recording="b")])
    assert isinstance(bad, PermanentFailure)
    assert words(good) == [(0.0, 2.0, " aa")]


@pytest.mark.parametrize(
    "answer",
    [
        (503, b"overloaded"),
        (429, b"slow down"),
        (200, b"<html><body>Welcome to our proxy</body></html>"),
        (200, b'{"text": "' + b"a" * (10 << 20) + b'"}'),
        (200, b'{"text": "cut o'),
        (200, b"[" * 100_000),
    ],
    ids=["503", "429", "html", "10 MB", "cut off", "nested"],
)
def test_answers_that_may_improve_are_retried(service: Service, answer: Answer) -> None:
    answers = iter([answer, answer])
    service.respond = lambda _asked: next(answers, (200, b'{"text": "aa"}'))
    (found,) = engine(service, requests=1).decode([window((0.0, 2.0))])
    assert words(found) == [(0.0, 2.0, " aa")]
    service.respond = lambda _asked: answer
    answered = engine(service, requests=1).decode([window((0.0, 2.0)), window((0.0, 2.0), recording="b")])
    assert [type(item) for item in answered] == [NoAnswer] * 2
    # Whether a service that is busy would take the second window is not tried.
    assert len(service.asked) == 3 + service_client.ATTEMPTS * (1 if answer[0] in BUSY else 2)


@pytest.mark.parametrize("answer", [(500, b"crashed"), (200, b"{"), (200, b"{}")], ids=["500", "cut off", "no text"])
def test_a_clip_that_fails_leaves_other_windows(service: Service, answer: Answer) -> None:
    service.respond = lambda asked: answer if asked.seconds > 3 else (200, b'{"text": "aa"}')
    tasks = [window((0.0, 4.0 if name in "ace" else 2.0), recording=name) for name in "abcdefg"]
    answers = engine(service, requests=1).decode(tasks)
    assert [isinstance(item, DecodedWindow) for item in answers] == [False, True] * 3 + [True]


def test_a_service_that_fails_every_window_is_left_alone(service: Service) -> None:
    service.respond = lambda _asked: (500, b"crashed")
    answers = engine(service, requests=1).decode([window((0.0, 2.0), recording=name) for name in "abcdef"])
    assert [item.status for item in answers if isinstance(item, NoAnswer)] == [500] * 6
    assert len(service.asked) == FAILED_WINDOWS * service_client.ATTEMPTS


@pytest.mark.parametrize("document", [{}, [], "text", {"text": 7}, {"error": {"message": "loading"}}, None])
def test_an_answer_without_text_is_transient(service: Service, document: object) -> None:
    service.respond = lambda _asked: (200, json.dumps(document).encode())
    (answer,) = engine(service).decode([window((0.0, 2.0))])
    assert isinstance(answer, TransientFailure)


def test_a_redirect_is_not_followed(service: Service) -> None:
    service.headers = {"Location": f"{service.url}/elsewhere"}
    service.respond = lambda _asked: (307, b"")
    (answer,) = engine(service).decode([window((0.0, 2.0))])
    assert isinstance(answer, PermanentFailure)
    assert "TRANSCRIPTION_SPEECH_URL" in answer.hint
    assert len(service.asked) == 1


def test_no_service_is_transient() -> None:
    client = ServiceClient("http://127.0.0.1:1/v1", "speech", sleep=lambda _s: None)
    (answer,) = ServiceEngine(client, "m").decode([window((0.0, 2.0))])
    assert isinstance(answer, TransientFailure)


def test_the_model_of_the_service_is_in_the_transcript_recipe(service: Service) -> None:
    assert engine(service).model != ServiceEngine(ServiceClient(service.url, "speech"), "another").model
    assert engine(service).model.name == "some-model"
    assert "OpenAI" in engine(service).model.engine


def test_the_alias_is_another_model_at_another_url() -> None:
    models = [
        ServiceEngine(ServiceClient(url, "speech"), name).model
        for name in ("whisper-1", "base")
        for url in ("http://a/v1", "http://b/v1", "http://a/v1/")
    ]
    assert models[0] == models[2] != models[1]
    assert models[3] == models[4] == models[5]


def test_load_reports_what_is_wrong(service: Service) -> None:
    engine(service).load()
    service.respond = lambda _asked: (401, b"no")
    with pytest.raises(Refused):
        engine(service).load()
