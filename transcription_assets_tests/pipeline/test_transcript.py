"""Transcripts in a store: checkpoints, vocabularies, speakers, and what is excluded from search."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from transcription_assets.defs import coverage_plot
from transcription_assets.domain import media_keys, passages, subtitles
from transcription_assets.domain.chunking import Region, coverage
from transcription_assets.domain.transcript import Transcript, Word, from_json
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation import wer
from transcription_assets.media import read_samples
from transcription_assets.pipeline import audio, embeddings, transcript, video, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speech import DecodedWindow
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine
from transcription_assets_tests.strategies import segment

KEY = "audio/talks/2024/a.wav"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


def put(store: Store, key: str, seconds: float = 10.0) -> None:
    source = recordings.tone(Path(store.url) / key, seconds, rate=8_000)
    assert source.is_file()


def test_checkpoint_applies_to_one_version_and_can_be_cleared(store: Store) -> None:
    done = DecodedWindow(0.0, 600.0, (segment("hello there", 1.0, 2.0),), (Region(1.0, 2.0),), {"en": 1.0})
    kept, other = Checkpoints(store, KEY, "etag1|model"), Checkpoints(store, KEY, "etag2|model")
    kept.put((0, 3), done)
    assert kept.get((0, 3)) == done
    assert kept.get((0, 4)) is None
    assert other.get((0, 3)) is None
    assert kept.present() == {(0, 3)}
    kept.clear()
    assert store.list(media_keys.checkpoints(KEY)) == []


def test_damaged_checkpoint_is_ignored(store: Store) -> None:
    kept = Checkpoints(store, KEY, "1")
    kept.put((0, 0), DecodedWindow(0.0, 1.0))
    [path] = store.list(media_keys.checkpoints(KEY))
    store.write(path, b'{"start": 0.0')
    assert kept.get((0, 0)) is None


def test_nearest_vocabulary_file_is_used(store: Store) -> None:
    assert transcript.vocabulary(store, KEY) == []
    store.write("audio/vocabulary.txt", b"\xef\xbb\xbfLanceDB\n")
    assert transcript.vocabulary(store, KEY) == ["LanceDB"]
    store.write("audio/talks/vocabulary.txt", b"# names\n\nComfyUI\n  Ruth   Bader \n")
    assert transcript.vocabulary(store, KEY) == ["ComfyUI", "Ruth Bader"]
    store.write("audio/talks/vocabulary.txt", b"\xff\xfe\x00")
    with pytest.raises(PermanentFailure, match=r"talks/vocabulary\.txt is not a text in UTF-8"):
        transcript.vocabulary(store, KEY)


def test_changed_vocabulary_causes_new_transcription(store: Store) -> None:
    put(store, "audio/10.wav")
    chain = Chain(store)
    chain.run("audio/10.wav")
    assert chain.run("audio/10.wav").reused == ["audio/10.wav"]
    store.write("audio/vocabulary.txt", b"LanceDB\n")
    assert chain.run("audio/10.wav").done == ["audio/10.wav"]
    assert from_json(store.read(media_keys.transcript("audio/10.wav"))).options["vocabulary"] == ["LanceDB"]


def test_batch_transcribes_duplicates_once_and_isolates_failures(store: Store) -> None:
    for name, seconds in (("a", 5), ("b", 10), ("c", 5), ("d", 15)):
        put(store, f"audio/{name}.wav", seconds)
    chain = Chain(store, engine=ScriptedEngine(failures={10: [PermanentFailure("b is bad")]}))
    names = [f"audio/{name}.wav" for name in "abcd"]
    decoder = chain.tools.decoder
    for key in names:
        video.materialise(store, key, decoder)
        audio.materialise(store, key, decoder)
    answers = dict(transcript.materialise_each(store, names, chain.tools.transcript_tools))
    first, second, third, fourth = (answers[name] for name in names)
    assert isinstance(second, PermanentFailure)
    for answer, key in ((first, names[0]), (third, names[2]), (fourth, names[3])):
        assert not isinstance(answer, Exception)
        assert answer[0].media.key == key
    assert not isinstance(third, Exception)
    assert third[0].reused_from == names[0]
    assert chain.engine.decoded == [5, 10, 15]


def test_channels_are_kept_separate_only_on_request(store: Store) -> None:
    key = "audio/call.wav"
    recordings.sound(Path(store.url) / key, "0.5*sin(880*t)|0.2*sin(2000*t)", 3.0)
    mixed, apart = MediaDecoder(recordings.wheel_ffmpeg()), MediaDecoder(recordings.wheel_ffmpeg(), keep_channels=True)
    video.materialise(store, key, mixed)
    assert audio.materialise(store, key, mixed).channels == 1
    made = audio.materialise(store, key, apart)
    assert (made.channels, made.reused) == (2, False)
    flac = store.readable_url(media_keys.flac(key))
    loud, soft = (
        np.abs(np.concatenate([*read_samples(flac, ffmpeg=recordings.wheel_ffmpeg(), channel=number)])).max()
        for number in (0, 1)
    )
    assert (loud, soft) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.2, abs=0.03))


@pytest.mark.parametrize(
    ("left", "right", "channels"),
    [
        ("0.3*sin(880*t)", "0.3*sin(880*t)", 1),
        ("0", "0", 1),
        ("0.3*sin(880*t)", "0.3*sin(880*t)+0.2*sin(2000*t)*lt(t,10)", 1),
        ("0.3*sin(880*t)", "if(lt(t,65),0.3*sin(880*t),0.2*sin(2000*t))", 2),
        ("0.2*sin(880*t)*gt(t,65)", "0.2*sin(2000*t)*gt(t,75)", 2),
    ],
    ids=["same voice in both", "silence", "stereo jingle", "shared announcement first", "a minute of silence first"],
)
def test_distinct_channels_are_detected_over_whole_recording(
    left: str, right: str, channels: int, store: Store
) -> None:
    """A call may begin with the same sound in both channels; a stereo talk must not be transcribed twice."""
    key = "audio/call.wav"
    recordings.sound(Path(store.url) / key, f"{left}|{right}", 100.0, rate=8_000)
    decoder = MediaDecoder(recordings.wheel_ffmpeg(), keep_channels=True)
    video.materialise(store, key, decoder)
    made = audio.materialise(store, key, decoder)
    plan = window_plan.load(store, key, made.sha256)
    assert plan is not None
    assert len(plan.channels) == channels


def test_damaged_transcript_is_treated_as_missing(store: Store) -> None:
    """If a truncated or hand-edited file raised an error each time, the recording would never get a transcript."""
    for damaged in (b"", b"[]", b"{}", b'{"schema_version": 1, "timing": {}}', b'{"schema_version": 1, "timing": []}'):
        store.write(media_keys.transcript(KEY), damaged)
        assert transcript.load(store, KEY) is None
    whole = json.loads(a_call().to_json())
    whole["segments"][0]["of a later release"] = 1
    store.write(media_keys.transcript(KEY), json.dumps(whole).encode())
    assert transcript.load(store, KEY) is None


def test_reading_from_an_offset_gives_the_exact_remaining_samples(tmp_path: Path) -> None:
    flac = recordings.speech_like(tmp_path / "a.flac", 30.0, rate=16_000)
    ffmpeg = recordings.wheel_ffmpeg()
    whole = np.concatenate([*read_samples(flac, ffmpeg=ffmpeg)])
    for start in (0.01, 7.77, 19.99, 29.5):
        rest = np.concatenate([*read_samples(flac, ffmpeg=ffmpeg, start=start)])
        assert np.array_equal(rest, whole[round(start * 16_000) :]), start


def a_call() -> Transcript:
    said = (
        replace(segment("Hello. Who is there?", 0.0, 3.0), speaker="left"),
        replace(segment("It is me.", 3.5, 5.0), speaker="right"),
        replace(segment("Thank you thank you.", 6.0, 7.0), speaker="left", low_confidence="loop"),
    )
    words = [word for item in said for word in item.words]
    made = from_json(
        b'{"schema_version":1,"filename":"a","language":"en","language_probability":1,"duration":10,"segments":[],'
        b'"media":{"key":"audio/a.wav","etag":"1"},"model":{"name":"m","revision":"1","compute_type":"int8","engine":"e"},'
        b'"options":{},"speech":{"vad_seconds":0,"covered_seconds":0,"largest_gap":0},"timing":{"wall_s":1,"audio_s":10}}'
    )
    return replace(made, segments=said, speech=coverage([Region(0.0, 5.0), Region(6.0, 9.9)], words))


def test_old_transcript_can_be_read_and_round_trips() -> None:
    made = a_call()
    assert from_json(made.to_json()) == made


def test_subtitles_name_speakers_and_never_mix_two_in_a_line() -> None:
    vtt, srt = subtitles.to_vtt(a_call()), subtitles.to_srt(a_call())
    assert "<v left>Hello. Who is there?" in vtt
    assert "<v right>It is me." in vtt
    assert "right: It is me." in srt


def test_each_passage_has_one_speaker() -> None:
    found = passages.cut_passages(a_call().segments)
    assert [(item.index, item.speaker, item.text) for item in found] == [
        (0, "left", "Hello. Who is there? Thank you thank you."),
        (1, "right", "It is me."),
    ]


def test_doubtful_segments_are_searchable_only_on_request(store: Store) -> None:
    store.write(media_keys.transcript("audio/a.wav"), a_call().to_json())
    made = embeddings.materialise(store, "audio/a.wav", HashEncoder(), embeddings.PassageOptions())
    rows = pl.read_parquet(io.BytesIO(store.read(media_keys.passages("audio/a.wav"))))
    assert rows["text"].to_list() == ["Hello. Who is there?", "It is me."]
    assert rows["speakers"].to_list() == [["left"], ["right"]]
    assert made.is_complete
    all_of_it = embeddings.materialise(
        store, "audio/a.wav", HashEncoder(), embeddings.PassageOptions(low_confidence=True)
    )
    assert "Thank you thank you." in all_of_it.rows["text"][0]


def test_passage_without_speaker_has_an_empty_speaker_list(store: Store) -> None:
    plain = replace(a_call(), segments=(segment("Just one voice.", 0.0, 2.0),))
    store.write(media_keys.transcript("audio/a.wav"), plain.to_json())
    made = embeddings.materialise(store, "audio/a.wav", HashEncoder(), embeddings.PassageOptions())
    assert made.rows["speakers"].to_list() == [[]]


def test_coverage_plot_fits_the_ui_and_shows_gaps_in_red() -> None:
    from PIL import Image

    shown = coverage_plot.coverage(a_call(), 1000)
    assert len(shown) < 1000
    data = base64.b64decode(shown.partition("base64,")[2].partition(")")[0])
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    assert picture.size == (480, 38)
    assert picture.getpixel((440, 0)) == (0xE0, 0x31, 0x31, 0xFF)
    assert picture.getpixel((0, coverage_plot.BAR_PX)) == (0, 0, 0, 0)
    assert "Red: no words at 0:0" in shown
    rows = coverage_plot._rows(a_call(), 100)  # noqa: SLF001 -- the pixels before they are packed
    assert set(rows[0, 85:98]) == {coverage_plot.HOLE}
    below = rows[coverage_plot.BAR_PX + coverage_plot.GAP_PX]
    assert set(below[61:69]) == {coverage_plot.SUSPECT}
    assert set(below[5:25]) == {coverage_plot.WORDS}
    assert np.flatnonzero(rows[-1]).tolist() == [0, 9, 19, 29, 39, 49, 59, 69, 79, 89, 99], (
        "expected one tick per second"
    )


@pytest.mark.parametrize("duration", [0.3, 1.0, 59.0, 3600.0, 36_000.0, 400_000.0])
def test_coverage_plot_fits_and_limits_ticks_for_any_duration(duration: float) -> None:
    holes = tuple((duration * part / 9, duration * (part + 0.5) / 9) for part in range(9))
    made = replace(a_call(), duration=duration, speech=replace(a_call().speech, voiced=holes, gaps=holes))
    assert 0 < len(coverage_plot.coverage(made, 1000)) < 1000
    ticks = np.count_nonzero(coverage_plot._rows(made, 480)[-1])  # noqa: SLF001 -- the pixels before they are packed
    assert 1 <= ticks <= coverage_plot.MOST_TICKS + 1


def test_coverage_plot_gets_coarser_to_fit_many_words() -> None:
    random = np.random.default_rng(7)
    starts = np.sort(random.uniform(0, 10_000, 3000))
    words = tuple(Word(float(at), float(at) + 0.3, " a", 0.9) for at in starts)
    voiced = tuple((float(at), float(at) + 2.0) for at in starts[::3])
    busy = replace(a_call(), duration=10_000.0, segments=(replace(segment("a", 0, 1), words=words),))
    busy = replace(busy, speech=replace(busy.speech, voiced=voiced))
    shown = coverage_plot.coverage(busy, 1000)
    assert 0 < len(shown) < 1000


def test_words_without_speech_and_speech_without_words_are_found() -> None:
    audit = coverage(
        [Region(0.0, 5.0)], [Word(1.0, 4.5, " a", 0.9), Word(8.0, 8.5, " b", 0.9), Word(8.5, 9.0, " c", 0.9)]
    )
    assert audit.hallucinations == ((8.0, 9.0),)
    assert audit.gaps == ()
    assert coverage([Region(0.0, 5.0)], []).gaps == ((0.0, 5.0),)


def test_word_errors_are_counted_after_normalisation() -> None:
    same = wer.errors("Mr. Smith paid twenty dollars for the colour.", "mister smith paid $20 for the color")
    assert (same.rate, same.words) == (0.0, 7)
    wrong = wer.errors("we saw the sea", "we sow the sea again")
    assert (wrong.substitutions, wrong.insertions, wrong.deletions) == (1, 1, 0)
    assert wer.errors("", "thank you").insertions == 2
    assert wer.total([same, wrong]).words == 11


def test_transcript_json_lists_languages_with_shares() -> None:
    document = json.loads(replace(a_call(), languages={"en": 0.7, "de": 0.3}).to_json())
    assert document["languages"] == {"en": 0.7, "de": 0.3}
    assert {"language", "language_probability", "low_confidence", "speaker"} <= set(document["segments"][0])
