"""The OpenAI audio API by the official client, over a real network; the engine is a fake."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pysubs2
import pytest

from transcription_assets.asr import batching, uploads
from transcription_assets.asr import server as asr_server
from transcription_assets.asr import service as asr_service
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.media import find_ffmpeg
from transcription_assets.speech import SpeechOptions
from transcription_assets_tests import recordings
from transcription_assets_tests.asr.serving import LIMITS, SCRIPT, GatedEngine, Running, running
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.served import place
from transcription_assets_tests.waiting import until

if TYPE_CHECKING:
    from openai import OpenAI

LARGE_BYTES = 100_000
"""Between the clips of 5 and 10 s."""
HEALTH = ("/health", "/healthz", "/readyz")
TEXT = " ".join(SCRIPT[5])
MODEL = "scripted"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        seconds: recordings.tone(folder / f"{seconds}.wav", seconds, rate=8_000).read_bytes() for seconds in (5, 10, 15)
    }


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(ScriptedEngine(SCRIPT)) as found:
        yield found


@pytest.fixture
def client(served: Running) -> "OpenAI":
    return served.client()


@pytest.fixture
def gated() -> Iterator[GatedEngine]:
    engine = GatedEngine(SCRIPT)
    yield engine
    engine.gate.set()


def test_json_has_the_text(client: "OpenAI", clips: dict[int, bytes]) -> None:
    found = client.audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]))
    assert found.text == TEXT
    assert found.usage is not None
    assert found.usage.model_dump() == {"type": "duration", "seconds": 5}


def test_verbose_json_has_words_and_segments(client: "OpenAI", clips: dict[int, bytes]) -> None:
    found = client.audio.transcriptions.create(
        model=MODEL,
        file=("a.wav", clips[5]),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (found.language, found.duration, found.text) == ("english", 5.0, TEXT)
    assert found.words is not None
    assert [word.word for word in found.words] == TEXT.split()
    assert [word.start for word in found.words] == pytest.approx([number * 5 / 6 for number in range(6)], abs=0.001)
    assert found.segments is not None
    assert [segment.text for segment in found.segments] == SCRIPT[5]
    assert found.segments[0].avg_logprob == -0.2


def test_verbose_json_has_segments_by_default(client: "OpenAI", clips: dict[int, bytes]) -> None:
    found = client.audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]), response_format="verbose_json")
    assert found.words is None
    assert len(found.segments or ()) == 2


@pytest.mark.parametrize("file_format", ["srt", "vtt"])
def test_subtitles_can_be_parsed(file_format: Any, client: "OpenAI", clips: dict[int, bytes]) -> None:
    found = client.audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]), response_format=file_format)
    cues = pysubs2.SSAFile.from_string(str(found), format_=file_format)
    assert " ".join(cue.plaintext for cue in cues).split() == TEXT.split()


def test_text_is_one_line(client: "OpenAI", clips: dict[int, bytes]) -> None:
    found = client.audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]), response_format="text")
    assert str(found) == f"{TEXT}\n"


def test_streamed_segments_are_the_whole_text(client: "OpenAI", clips: dict[int, bytes]) -> None:
    events = list(client.audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]), stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == TEXT
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == TEXT


def test_a_quiet_stream_is_kept_alive(
    gated: GatedEngine, clips: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr_server, "KEEP_ALIVE_S", 0.1)
    with running(gated) as served:
        url = f"{served.url}/v1/audio/transcriptions"
        fields, files = {"model": MODEL, "stream": "true"}, {"file": ("a.wav", clips[5])}
        with httpx2.stream("POST", url, data=fields, files=files, timeout=120) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": waiting"
            gated.gate.set()
            assert "transcript.text.done" in [line for line in lines if line.startswith("data:")][-1]


def test_a_failure_of_a_stream_has_its_status(clips: dict[int, bytes]) -> None:
    import openai

    engine = ScriptedEngine(failures={5: [TransientFailure("the GPU failed")]})
    with running(engine) as served, pytest.raises(openai.InternalServerError) as failure:
        list(served.client().audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]), stream=True))
    assert failure.value.status_code == 503


def test_the_model_and_its_alias_are_listed(client: "OpenAI", clips: dict[int, bytes]) -> None:
    import openai

    assert {model.id for model in client.models.list()} == {MODEL, "whisper-1"}
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.audio.transcriptions.create(model="whisper-1", file=("a.wav", clips[5])).text == TEXT
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_language_task_and_prompt_reach_the_engine(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    gated.gate.set()
    with running(gated) as served:
        client = served.client()
        client.audio.transcriptions.create(
            model=MODEL, file=("a.wav", clips[5]), language="de", prompt="Zugspitze, Anna Maier\nIsar"
        )
        with pytest.warns(DeprecationWarning, match="deprecated"):
            client.audio.translations.create(model=MODEL, file=("a.wav", clips[5]))
    assert gated.asked == [SpeechOptions(language="de"), SpeechOptions(task="translate")]
    assert gated.vocabularies == [("Zugspitze", "Anna Maier", "Isar"), ()]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "another"}, 404, "model"),
        ({"model": ""}, 400, "model"),
        ({"response_format": "diarized_json"}, 400, "response_format"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": "nan"}, 400, "temperature"),
        ({"language": "the language of love"}, 400, "language"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities[]"),
        ({"timestamp_granularities[]": "letter"}, 400, "timestamp_granularities[]"),
        ({"stream": "perhaps"}, 400, "stream"),
        ({"stream": "true", "response_format": "srt"}, 400, "stream"),
    ],
    ids=lambda value: "-".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else None,
)
def test_invalid_parameters_are_named(
    fields: dict[str, str], status: int, param: str, served: Running, clips: dict[int, bytes]
) -> None:
    answer = posted(served, {"model": MODEL} | fields, ("a.wav", clips[5]))
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.wav", b"", 400),
        ("a.wav", b"This is a letter, and no recording." * 40, 400),
        ("a.mp4", b"\0" * 5_000, 400),
        ("../../etc/passwd", b"#!/bin/sh", 400),
        ("a.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", 400),
        ("a.txt", b"ffconcat version 1.0\nfile /etc/passwd\n", 400),
    ],
    ids=["empty", "text", "zeros", "path", "playlist", "concat"],
)
def test_what_is_no_recording_is_rejected(name: str, content: bytes, status: int, served: Running) -> None:
    answer = posted(served, {"model": MODEL}, (name, content))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "file")
    assert "/upload" not in error["message"]
    assert "../" not in error["message"]


def test_the_content_counts_and_not_the_suffix(served: Running, clips: dict[int, bytes]) -> None:
    for name in ("a.mp3", "a.txt", "a", ""):
        assert posted(served, {"model": MODEL}, (name or "x", clips[5])).json()["text"] == TEXT


def test_a_recording_that_is_too_long_is_rejected(clips: dict[int, bytes]) -> None:
    with running(ScriptedEngine(SCRIPT), longest_s=8.0) as served:
        assert posted(served, {"model": MODEL}, ("a.wav", clips[10])).status_code == 400
        assert posted(served, {"model": MODEL}, ("a.wav", clips[5])).status_code == 200


def test_an_upload_that_is_too_large_is_rejected(clips: dict[int, bytes]) -> None:
    with running(ScriptedEngine(SCRIPT), replace(LIMITS, most_bytes=50_000)) as served:
        answer = posted(served, {"model": MODEL}, ("a.wav", clips[5]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")

        def endless() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(100):
                yield b"0" * 10_000

        answer = httpx2.post(
            f"{served.url}/v1/audio/transcriptions",
            content=endless(),
            headers={"content-type": "multipart/form-data; boundary=x"},
            timeout=60,
        )
        assert answer.status_code == 413


def test_a_huge_stated_size_is_rejected_at_once(served: Running) -> None:
    with socket.create_connection(place(served.url), timeout=30) as asking:
        asking.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 999999999999\r\n\r\n"
        )
        assert asking.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n"),
        (f"multipart/form-data; boundary={'x' * 1000}", b"--" + b"x" * 1000 + b"--\r\n"),
    ],
    ids=["json", "no boundary", "empty", "no parts", "cut off", "no file", "long header", "long boundary"],
)
def test_malformed_forms_are_rejected(kind: str, body: bytes, served: Running) -> None:
    answer = httpx2.post(
        f"{served.url}/v1/audio/transcriptions", content=body, headers={"content-type": kind}, timeout=60
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_large_fields_and_many_fields_are_rejected(served: Running, clips: dict[int, bytes]) -> None:
    large = {"model": MODEL, "prompt": "x" * (uploads.FIELD_BYTES + 1)}
    assert posted(served, large, ("a.wav", clips[5])).status_code == 413
    many = {"model": MODEL} | {f"field{number}": "" for number in range(uploads.MOST_FIELDS)}
    assert posted(served, many, ("a.wav", clips[5])).status_code == 400


def test_other_paths_and_methods_answer_in_the_same_form(served: Running) -> None:
    for path, status in (("/v1/chat/completions", 404), ("/v1/audio/transcriptions", 405)):
        answer = httpx2.get(f"{served.url}{path}", timeout=60)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def test_a_token_is_required_if_one_is_set(clips: dict[int, bytes]) -> None:
    import openai

    with running(ScriptedEngine(SCRIPT), token="right") as served:
        with pytest.raises(openai.AuthenticationError):
            served.client("wrong").audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5]))
        assert served.client("right").audio.transcriptions.create(model=MODEL, file=("a.wav", clips[5])).text == TEXT
        assert httpx2.get(f"{served.url}/health", timeout=60).status_code == 200
        assert httpx2.get(f"{served.url}/metrics", timeout=60).status_code == 401


def test_requests_of_other_sites_are_rejected(served: Running, clips: dict[int, bytes]) -> None:
    for headers, status in (({"sec-fetch-site": "cross-site"}, 403), ({"host": "evil.example"}, 400)):
        answer = posted(served, {"model": MODEL}, ("a.wav", clips[5]), headers)
        assert answer.status_code == status


def test_requests_beyond_the_limit_get_429(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with running(gated, replace(LIMITS, requests=2)) as served, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[5])) for _ in range(2)]
        reached(served, 2)
        answer = posted(served, {"model": MODEL}, ("a.wav", clips[5]))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert answer.json()["error"]["type"] == "rate_limit_error"
        gated.gate.set()
        assert [future.result().status_code for future in waiting] == [200, 200]
        assert posted(served, {"model": MODEL}, ("a.wav", clips[5])).status_code == 200


def test_waiting_recordings_are_decoded_together(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with running(gated) as served, ThreadPoolExecutor(4) as pool:
        first = pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[15]))
        assert gated.entered.wait(120)
        others = [pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[length])) for length in (5, 10, 5)]
        reached(served, 4)
        ready(served, 3)
        gated.gate.set()
        assert [each.result().status_code for each in (first, *others)] == [200] * 4
    assert gated.groups == [[15], [5, 5, 10]]


def test_a_client_that_hangs_up_is_not_decoded(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with running(gated) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[5]))
        assert gated.entered.wait(120)
        with pytest.raises(httpx2.TimeoutException):
            posted(served, {"model": MODEL}, ("a.wav", clips[10]), timeout=httpx2.Timeout(60, read=1))
        reached(served, 1)
        gated.gate.set()
        assert first.result().json()["text"] == TEXT
        assert posted(served, {"model": MODEL}, ("a.wav", clips[5])).status_code == 200
    assert gated.decoded == [5, 5]


def test_a_client_of_a_stream_that_hangs_up_is_not_decoded(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with running(gated) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[5]))
        assert gated.entered.wait(120)
        fields = {"model": MODEL, "stream": "true"}
        with pytest.raises(httpx2.TimeoutException):
            posted(served, fields, ("a.wav", clips[10]), timeout=httpx2.Timeout(60, read=1))
        reached(served, 1)
        gated.gate.set()
        assert first.result().json()["text"] == TEXT
    assert gated.decoded == [5]


def test_a_request_has_a_deadline(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with running(gated, replace(LIMITS, timeout_s=1.5)) as served:
        answer = posted(served, {"model": MODEL}, ("a.wav", clips[5]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        gated.gate.set()


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    """FAKE of an ffmpeg that never ends with uploads of 10 s; their process IDs are in the file `started`."""
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"""#!/bin/sh
        for each; do
            case "$each" in *upload)
                if [ "$(wc -c < "${{each#file:}}")" -gt {LARGE_BYTES} ]; then
                    echo $$ >> '{tmp_path}/started'
                    exec sleep 600
                fi
            esac
        done
        exec '{find_ffmpeg()}' "$@"
        """.lstrip()
    )
    program.chmod(0o755)
    return str(program)


def has_ended(ffmpeg: str) -> bool:
    """Return whether all processes of the fake ended."""
    started = Path(ffmpeg).with_name("started").read_text().split()
    return bool(started) and not any(Path(f"/proc/{process}").exists() for process in started)


def test_a_deadline_ends_the_extraction(hanging: str, clips: dict[int, bytes]) -> None:
    with running(ScriptedEngine(SCRIPT), replace(LIMITS, timeout_s=1.5), ffmpeg=hanging) as served:
        assert posted(served, {"model": MODEL}, ("a.wav", clips[10])).status_code == 504
        assert has_ended(hanging)


def test_a_hang_up_ends_the_extraction(hanging: str, clips: dict[int, bytes]) -> None:
    with running(ScriptedEngine(SCRIPT), ffmpeg=hanging) as served:
        with pytest.raises(httpx2.TimeoutException):
            posted(served, {"model": MODEL}, ("a.wav", clips[10]), timeout=httpx2.Timeout(60, read=1))
        reached(served, 0)
        assert has_ended(hanging)


def test_small_uploads_do_not_wait_for_large_ones(
    hanging: str, clips: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr_service, "LARGE_BYTES", LARGE_BYTES)
    monkeypatch.setattr(asr_service, "usable_cores", lambda: 1)
    with ThreadPoolExecutor(3) as pool, running(ScriptedEngine(SCRIPT), ffmpeg=hanging, leave_s=1) as served:
        for _ in range(3):
            pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[10]))
        reached(served, 3)
        assert posted(served, {"model": MODEL}, ("a.wav", clips[5])).json()["text"] == TEXT


def test_an_engine_that_only_fails_is_unhealthy(clips: dict[int, bytes]) -> None:
    engine = ScriptedEngine(SCRIPT, failures={5: [ValueError("a bug")] * batching.MOST_FAILURES})
    with running(engine) as served:
        found = []
        for _ in range(batching.MOST_FAILURES + 1):
            found.append([httpx2.get(f"{served.url}{path}", timeout=60).status_code for path in HEALTH])
            posted(served, {"model": MODEL}, ("a.wav", clips[5]))
        assert found == [[200] * 3] * batching.MOST_FAILURES + [[503] * 3]
        assert httpx2.get(f"{served.url}/healthz", timeout=60).status_code == 200


def test_an_upload_that_stalls_is_ended(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL_S", 0.5)
    with socket.create_connection(place(served.url), timeout=60) as asking:
        asking.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
        )
        assert asking.recv(12) == b"HTTP/1.1 408"


def test_an_upload_that_drips_is_ended(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_S", -10.0)

    def drops() -> Iterator[bytes]:
        for _ in range(100):
            yield b"0" * 100

    answer = httpx2.post(
        f"{served.url}/v1/audio/transcriptions",
        content=drops(),
        headers={"content-type": "multipart/form-data; boundary=x"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "timeout")


def test_one_failure_does_not_affect_other_requests(clips: dict[int, bytes]) -> None:
    engine = ScriptedEngine(SCRIPT, failures={10: [ValueError("a bug")], 15: [PermanentFailure("key xyz is bad")]})
    with running(engine) as served, ThreadPoolExecutor(3) as pool:
        lengths = (5, 10, 15)
        asked = [pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[length])) for length in lengths]
        answers = [future.result() for future in asked]
        assert [answer.status_code for answer in answers] == [200, 500, 502]
        assert "xyz" not in answers[2].text


def test_requests_in_progress_are_finished_at_the_end(gated: GatedEngine, clips: dict[int, bytes]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with running(gated) as served:
            asked = pool.submit(posted, served, {"model": MODEL}, ("a.wav", clips[5]))
            assert gated.entered.wait(120)
            threading.Timer(1.0, gated.gate.set).start()
        assert asked.result().json()["text"] == TEXT


def test_metrics_count_requests_and_audio(clips: dict[int, bytes]) -> None:
    with running(ScriptedEngine(SCRIPT)) as served:
        posted(served, {"model": MODEL}, ("a.wav", clips[5]))
        text = httpx2.get(f"{served.url}/metrics", timeout=60).text
    assert 'transcription_asr_request_seconds_count{status="200"} 1.0' in text
    assert "transcription_asr_audio_seconds_total 5.0" in text


def posted(
    served: Running,
    fields: dict[str, str],
    file: tuple[str, bytes],
    headers: dict[str, str] | None = None,
    timeout: Any = 120,
) -> httpx2.Response:
    return httpx2.post(
        f"{served.url}/v1/audio/transcriptions",
        data=fields,
        files={"file": file},
        headers=headers,
        timeout=timeout,
    )


def reached(served: Running, requests: int) -> None:
    """Wait until so many requests are in the service."""
    inside: Callable[[], float | None] = lambda: served.service.metrics.registry.get_sample_value(  # noqa: E731
        "transcription_asr_requests"
    )
    until(f"{requests} requests", lambda: inside() == requests, inside)


def ready(served: Running, windows: int) -> None:
    """Wait until so many windows are read, and wait for the engine."""
    waiting = vars(vars(served.service)["_batcher"])
    until(f"{windows} windows", lambda: len(waiting["_ready"]) == windows, lambda: len(waiting["_ready"]))
