"""The whole graph with the real models, on recordings with known words and times."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dagster as dg
import numpy as np
import pysubs2
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from transcription_assets import models, settings
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript, Word, from_json
from transcription_assets.media import read_samples
from transcription_assets.search.index import Index
from transcription_assets.search.query import Hit, Query
from transcription_assets.search.searcher import Searcher
from transcription_assets.speech import SAMPLE_RATE, Hardware, Whisper, transcribe_one, windowing
from transcription_assets_tests import demo_library
from transcription_assets_tests.demo import TOLD
from transcription_assets_tests.demo_library import BOTH, CENTRE, ENGLISH_S, ITALIAN_S, SPEECHLESS
from transcription_assets_tests.graph_runs import CHAIN, Graph
from transcription_assets_tests.recordings import wheel_ffmpeg
from transcription_assets_tests.speech.spelling import SpellingDecoder, loud, seekable, spelling
from transcription_assets_tests.speech.spelling import engine as spelling_engine

TRUTH: dict[str, dict[str, Any]] = {entry["file"]: entry for entry in json.loads(TOLD.read_text(encoding="utf-8"))}
BEES = "talks/bees-on-the-library-roof.mp4"
BREAD = "talks/italiano/il-pane-della-notte.mp4"
WIZARD = "stories/the-wizard-of-the-opera-house.mp4"

pytestmark = pytest.mark.timeout(demo_library.TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Library:
    """The processed demo library, and a searcher with its encoder, which loads once."""

    graph: Graph
    keys: Sequence[str]
    run: dg.DagsterRun
    searcher: Searcher

    def transcript(self, key: str) -> Transcript:
        return from_json(self.graph.store.read(media_keys.transcript(key)))


def demo(file: str) -> str:
    return f"video/{file}"


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with demo_library.opened(request.config, tmp_path_factory) as made:
        store = made.graph.store
        assert made.graph.encoding
        encoder = made.graph.encoding.open()
        searcher = Searcher(Index(store.lancedb_uri, store.lancedb_options), lambda _model: encoder)
        yield Library(made.graph, made.keys, made.run, searcher)


def tokens(text: str) -> list[str]:
    """Return normalised words: lower case, no punctuation, 50,000 as 50000."""
    return re.findall(r"\w+", re.sub(r"(?<=\d)[,.](?=\d{3})", "", text.lower()))


def word_error_rate(truth: str, heard: str) -> float:
    """Return substitutions, insertions and deletions per reference word (Levenshtein)."""
    reference, found = tokens(truth), tokens(heard)
    return Levenshtein.distance(reference, found) / len(reference)


def test_the_word_error_rate_counts_all_three_errors() -> None:
    assert word_error_rate("In June, 50,000 bees", "in june 50000 bees.") == 0
    assert word_error_rate("a b c d", "a x c") == 0.5
    assert word_error_rate("a b", "a b c d") == 1.0


@pytest.mark.models
@pytest.mark.parametrize("file", TRUTH)
def test_the_demo_is_transcribed_in_its_language(library: Library, file: str) -> None:
    heard = library.transcript(demo(file))
    assert heard.language == TRUTH[file]["language"]
    assert heard.language_probability > 0.5
    assert word_error_rate(TRUTH[file]["text"], heard.text) < 0.15
    assert heard.duration == pytest.approx(TRUTH[file]["duration"], abs=0.2)


@pytest.mark.models
@pytest.mark.parametrize("file", TRUTH)
def test_sentences_start_at_their_audio(library: Library, file: str) -> None:
    heard = library.transcript(demo(file)).words
    margin = 0.03  # silence before each sentence in the script of the demo
    for sentence in TRUTH[file]["sentences"]:
        assert min(abs(word.start - sentence["start"] - margin) for word in heard) <= 0.1, sentence


@pytest.mark.models
def test_times_never_decrease_or_leave_the_recording(library: Library) -> None:
    for key in library.keys:
        heard = library.transcript(key)
        clock = [time for word in heard.words for time in (word.start, word.end)]
        assert all(earlier <= later for earlier, later in pairwise(clock)), key
        assert all(0 <= time <= heard.duration for time in clock), key
        assert [segment.id for segment in heard.segments] == list(range(len(heard.segments)))


@pytest.mark.models
def test_every_asset_check_of_every_recording_passes(library: Library) -> None:
    for asset in CHAIN:
        assert set(library.graph.evaluations(library.run, asset).values()) == {1}
    for entry in library.graph.instance.all_logs(
        library.run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ):
        evaluation: Any = entry.get_dagster_event().event_specific_data
        if (evaluation.partition, evaluation.check_name) == ("audio/silence.flac", "audible"):
            assert not evaluation.passed  # digital silence
            continue
        assert evaluation.passed, (evaluation.partition, evaluation.check_name, evaluation.description)


@pytest.mark.models
def test_the_json_has_every_documented_field(library: Library) -> None:
    document = json.loads(library.graph.store.read(media_keys.transcript(demo(WIZARD))))
    assert document["schema_version"] == 2
    assert {
        *("filename", "language", "language_probability", "duration", "segments", "media", "model", "options"),
        *("speech", "timing"),
    } <= set(document)
    assert {
        *("id", "start", "end", "text", "words", "avg_logprob", "no_speech_prob", "compression_ratio", "repaired"),
        *("language", "language_probability", "low_confidence", "speaker", "estimated_times"),
    } == set(document["segments"][0])
    assert set(document["segments"][0]["words"][0]) == {"start", "end", "word", "probability"}
    assert document["media"]["key"] == demo(WIZARD)
    assert document["media"]["etag"] == library.graph.store.stat(demo(WIZARD)).etag
    assert set(document["model"]) == {"name", "revision", "compute_type", "engine"}
    assert document["model"]["revision"]
    assert set(document["speech"]) == {
        *("vad_seconds", "covered_seconds", "largest_gap", "gaps", "hallucinations", "voiced"),
    }
    assert set(document["timing"]) == {"wall_s", "audio_s", "rtfx"}
    assert document["filename"] == "the-wizard-of-the-opera-house.mp4"


@pytest.mark.models
@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_subtitles_parse_elsewhere_with_the_same_text(library: Library, suffix: str) -> None:
    for key in library.keys:
        text = library.graph.store.read(media_keys.transcript(key, suffix)).decode()
        heard = library.transcript(key)
        if heard.no_speech:
            assert "-->" not in text
            continue
        cues = list(pysubs2.SSAFile.from_string(text))
        assert word_error_rate(heard.text, " ".join(cue.plaintext for cue in cues)) == 0
        assert all(0 <= cue.start < cue.end <= 1000 * heard.duration + 1 for cue in cues), key
        assert all(left.end <= right.start for left, right in pairwise(cues)), key


def search(library: Library, query: str) -> Hit:
    """Return the best hit, as the commands do."""
    return library.searcher.search(Query(query, limit=1)).hits[0]


@pytest.mark.models
@pytest.mark.parametrize(
    ("query", "file", "said"),
    [
        ("what the wizard hid behind the curtain", WIZARD, "the wizard hid a silver compass"),
        ("a swarm of bees stops the traffic", BEES, "a swarm of 10,000 bees"),
        ("l'anello perso nella pasta del pane", BREAD, "aveva perso il suo anello"),
    ],
)
def test_a_search_by_meaning_finds_the_right_second(library: Library, query: str, file: str, said: str) -> None:
    found = search(library, query)
    truth = next(sentence for sentence in TRUTH[file]["sentences"] if said in sentence["text"])
    assert found.media_key == demo(file)
    assert found.start == pytest.approx(truth["start"], abs=2.0)


@pytest.mark.models
def test_nearly_every_sentence_is_found_by_its_own_words(library: Library) -> None:
    asked, missed = 0, []
    for file, truth in TRUTH.items():
        for sentence in truth["sentences"]:
            asked += 1
            found = search(library, sentence["text"])
            # The bilingual recording contains the beginnings of two talks at other times.
            offsets = {demo(file): 0.0, BOTH: 0.0 if file == BEES else ENGLISH_S, CENTRE: 0.0}
            if abs(found.start - offsets.get(found.media_key, 1e9) - sentence["start"]) > 2.0:
                missed.append((sentence["text"], found))
    assert len(missed) <= 0.1 * asked, missed


@pytest.mark.models
@pytest.mark.parametrize("key", SPEECHLESS)
def test_audio_without_speech_has_no_words(library: Library, key: str) -> None:
    heard = library.transcript(key)
    assert heard.no_speech, heard.text
    assert not heard.words
    assert library.graph.metadata("transcript", key)["no_speech"] is True
    assert library.graph.passages().filter(media_key=key).is_empty()


@pytest.mark.models
def test_speech_in_the_centre_channel_is_transcribed(library: Library) -> None:
    assert library.graph.metadata("video", CENTRE)["sound"].endswith("5.1")
    said = " ".join(sentence["text"] for sentence in TRUTH[WIZARD]["sentences"][:2])
    assert word_error_rate(said, library.transcript(CENTRE).text) < 0.2


@pytest.mark.models
def test_a_change_of_language_is_followed(library: Library) -> None:
    heard = library.transcript(BOTH)
    assert heard.language == "en"
    for file, first, last in ((BEES, 0.0, ENGLISH_S), (BREAD, ENGLISH_S, ENGLISH_S + ITALIAN_S)):
        truth = [item["text"] for item in TRUTH[file]["sentences"] if item["end"] <= last - first]
        words = [word.word for word in heard.words if first <= (word.start + word.end) / 2 < last]
        assert word_error_rate(" ".join(truth), "".join(words)) < 0.25, file


@pytest.mark.models
def test_short_windows_give_the_same_words_as_long_ones(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    end_s = 25.5  # a pause
    flac = library.graph.store.readable_url(media_keys.flac(demo(BEES)))
    samples = np.concatenate([*read_samples(flac, ffmpeg=wheel_ffmpeg(), duration=end_s)])
    located = models.locate("base", "speech", settings.load().models_dir)
    engine = Whisper(located.path, name="base", revision="", hardware=Hardware("cpu"))
    in_short_windows = transcribe_one(engine, seekable(samples))
    text = "".join(word.word for segment in in_short_windows.segments for word in segment.words)
    in_one = "".join(word.word for word in library.transcript(demo(BEES)).words if word.end < end_s)
    said = " ".join(sentence["text"] for sentence in TRUTH[BEES]["sentences"] if sentence["end"] < end_s)
    assert word_error_rate(said, text) < word_error_rate(said, in_one) + 0.06
    assert in_short_windows.duration == pytest.approx(end_s, abs=0.01)
    assert in_short_windows.speech.coverage > 0.9


@pytest.mark.models
def test_no_window_position_loses_a_word_of_real_speech(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of words and speech are real; the fake decoder returns the words that it gets uncut."""
    words = [
        Word(word.start, max(word.end, word.start + 0.02), f" {number}", 0.9)
        for number, word in enumerate(library.transcript(demo(BEES)).words, 1)
    ]
    samples = spelling(words, library.transcript(demo(BEES)).duration)
    monkeypatch.setattr(windowing, "voiced_regions", loud)
    # Only for windows whose range of possible ends is longer than any speech without a pause.
    longest = max(region.length for region in loud(samples))
    shortest = int(10 * (longest + 0.1) / (1 - windowing.EARLIEST_SHARE)) + 1
    assert shortest < 300
    for tenths in range(shortest, 590, 4):
        monkeypatch.setattr(windowing, "WINDOW_S", tenths / 10)
        answer = transcribe_one(spelling_engine(SpellingDecoder()), seekable(samples))
        heard = [word.word for segment in answer.segments for word in segment.words]
        assert heard == [word.word for word in words], tenths


stretches = st.lists(st.tuples(st.booleans(), st.integers(1, 2 * SAMPLE_RATE)), max_size=12)


@given(stretches, st.integers(1, SAMPLE_RATE), st.sampled_from([0.5, 1.0, 3.0]))
@examples(max_examples=100)
def test_windows_contain_all_samples_and_all_voiced_seconds(
    sound: list[tuple[bool, int]], block: int, window_s: float
) -> None:
    parts = [np.full(length, 0.5 if voiced else 0.0, np.float32) for voiced, length in sound]
    samples = np.concatenate([np.empty(0, np.float32), *parts])
    blocks = [samples[start : start + block] for start in range(0, len(samples), block)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "voiced_regions", loud)
        found = list(windowing.plan_windows(iter(blocks), window_s=window_s))
    ends = [0.0, *(cut.end for cut in found)]
    assert [cut.start for cut in found] == ends[:-1]
    assert ends[-1] == len(samples) / SAMPLE_RATE
    assert all(cut.length <= window_s + block / SAMPLE_RATE for cut in found)
    heard = sum(region.length for cut in found for region in cut.voiced)
    assert heard == pytest.approx(np.count_nonzero(samples) / SAMPLE_RATE, abs=1e-3)
    for cut in found:
        assert all(0 <= region.start < region.end <= cut.length + 1e-9 for region in cut.voiced)
