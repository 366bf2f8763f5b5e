"""embeddings: passages with their vectors (`embeddings/<key>.parquet`) and their rows in the search table."""

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from transcription_assets.domain import media_keys, passages
from transcription_assets.domain.text import printable
from transcription_assets.domain.transcript import Segment, Transcript, from_json
from transcription_assets.embedding import Encoder
from transcription_assets.errors import NotFound, PermanentFailure, TransientFailure
from transcription_assets.events import occurrences
from transcription_assets.pipeline import audio, failure_notes, origin, slides, video
from transcription_assets.pipeline.work_queue import WholeRecording
from transcription_assets.search.index import Index
from transcription_assets.search.ranking import Vector
from transcription_assets.search.schema import (
    decode_sentences,
    decode_vectors,
    encode_card,
    encode_vectors,
    polars_schema,
)
from transcription_assets.slides.finder import Slide
from transcription_assets.storage import Store

VERSION = "7"
SAME_VECTORS = ("6", "7")
"""Versions of the columns whose rows have the same vectors."""
OVERLAP_S = 8.0
"""Seconds of a passage that the next one repeats; for the evaluation see docs/benchmarks/search.md."""
FINGERPRINT = "fingerprint"

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The rows of one recording; `reused` says whether they were in the store already."""

    key: str
    etag: str
    rows: pl.DataFrame
    sentences: int
    fingerprint: str
    reused: bool

    @property
    def is_complete(self) -> bool:
        """True if every sentence of the transcript is in a passage."""
        cards = self.rows.filter(pl.col("kind") == "speech")["card"]
        indexed = {(item.start, item.text) for card in cards for item in decode_sentences(card)}
        return len(indexed) == self.sentences


@dataclass(frozen=True, slots=True)
class PassageOptions:
    """Options: length of a passage in seconds, and whether words of low confidence and slides are searchable."""

    passage_s: float = 30.0
    low_confidence: bool = False
    slides: bool = False


@failure_notes.records_failure("embeddings")
def materialise(store: Store, key: str, encoder: Encoder, passage_options: PassageOptions) -> Embeddings:
    """Cut the transcript into passages, and encode these and their sentences. `publish` makes them searchable.

    Segments of low confidence are left out unless `passage_options` includes them.

    Raises:
        PermanentFailure: there is no transcript, it is damaged, or the encoder refused.
        TransientFailure: the transcript is of another version of the recording, or the store or the encoder does not
            answer.

    """
    source = _source(store, key, encoder, passage_options)
    sentences = passages.cut_sentences(_searchable(source.transcript, passage_options))
    count, etag = len({(item.start, item.text) for item in sentences}), source.transcript.media.etag
    stored = _load(store, key, source.fingerprint)
    if stored is not None:
        return Embeddings(key, etag, stored, count, source.fingerprint, reused=True)
    known = known_vectors(store, key, encoder, passage_options)
    rows = rows_of(source.transcript, source.info, encoder, passage_options, known, shown=source.slides)
    target = io.BytesIO()
    rows.write_parquet(target, metadata={FINGERPRINT: source.fingerprint})
    store.write(media_keys.passages(key), target.getvalue())
    return Embeddings(key, etag, rows, count, source.fingerprint, reused=False)


def pending(store: Store, key: str, encoder: Encoder, passage_options: PassageOptions) -> WholeRecording | None:
    """Return what is to be encoded, for workers; None if the passages are in the store.

    Raises:
        TranscriptionError: as `materialise` does.

    """
    source = _source(store, key, encoder, passage_options)
    if _load(store, key, source.fingerprint) is not None:
        return None
    return WholeRecording(key, f"embeddings|{source.fingerprint}", source.transcript.duration)


def options(encoder: Encoder, passage_options: PassageOptions) -> dict[str, Any]:
    """Return the options that the result depends on, as values for JSON."""
    recipe = recipe_of(str(encoder.model), passage_options.passage_s)
    return {"recipe": recipe, "low_confidence": passage_options.low_confidence, "slides": passage_options.slides}


@dataclass(frozen=True, slots=True)
class _Source:
    """Input for the passages of a recording; `fingerprint` identifies the input and the options."""

    transcript: Transcript
    info: "RecordingInfo"
    slides: tuple[Slide, ...]
    fingerprint: str


def _source(store: Store, key: str, encoder: Encoder, passage_options: PassageOptions) -> _Source:
    try:
        document = store.read(media_keys.transcript(key))
    except NotFound as error:
        hint = "materialise `transcript` first"
        raise PermanentFailure(f"{key}: no transcript yet; {hint}", key=key, step="embeddings", hint=hint) from error
    try:
        transcript = from_json(document)
    except ValueError as error:
        hint = "materialise `transcript` again"
        raise PermanentFailure(
            f"{key}: the transcript is damaged ({error}); {hint}", key=key, step="embeddings", hint=hint
        ) from error
    extracted = audio.load(store, key)
    if extracted is not None and extracted.etag != transcript.media.etag:
        raise TransientFailure(
            f"{key}: the transcript is of another version of the recording; materialise `transcript` again",
            key=key,
            step="embeddings",
            hint="materialise `transcript` again",
        )
    recipe = recipe_of(str(encoder.model), passage_options.passage_s)
    info = _recording_info(store, transcript)
    shown = _slides(store, transcript) if passage_options.slides else ()
    text = f"{recipe}|{info}|{passage_options.low_confidence}|{shown}"
    return _Source(transcript, info, shown, hashlib.sha256(document + text.encode()).hexdigest()[:32])


def _slides(store: Store, transcript: Transcript) -> tuple[Slide, ...]:
    """Return the slides of the version of the recording that was transcribed, none if there is no record of it."""
    found = slides.load(store, transcript.media.key)
    return found.slides if found and found.etag == transcript.media.etag else ()


def publish(store: Store, table: Index, made: Sequence[Embeddings]) -> None:
    """Replace the rows of these recordings in the search table in one version, unless all are there already.

    Recordings whose passages were replaced in the store meanwhile are left to those who did so.

    After that the recordings need no further step, so their failure records are deleted.

    Raises:
        PermanentFailure: the rows have several recipes, or the table cannot be used.
        TransientFailure: others kept writing to the table, or the store does not answer.

    """
    with failure_notes.recording_failures(store, [item.key for item in made], "embeddings"):
        # Whoever replaced a file since (a user who names a speaker) publishes that one.
        own = [item for item in made if is_stored(store, item)]
        stale = [item for item in own if not (item.reused and table.holds(item.rows, item.key))]
        if stale:
            table.replace(pl.concat([item.rows for item in stale]), [item.key for item in stale])
    occurrences.record_done(store, [(item.key, item.etag) for item in own])
    for item in made:
        failure_notes.forget(store, item.key)


def is_stored(store: Store, made: Embeddings) -> bool:
    """Return whether the Parquet file in the store is the one of this materialisation.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _load(store, made.key, made.fingerprint) is not None


def _load(store: Store, key: str, fingerprint: str) -> pl.DataFrame | None:
    """Return the passages in the store if they have this fingerprint, else None."""
    return _stored(store, key, lambda found: found == fingerprint)


def _stored(store: Store, key: str, accepts: Callable[[str | None], bool] = lambda _found: True) -> pl.DataFrame | None:
    """Return the passages in the store if `accepts` their fingerprint; None if there are none or they are damaged."""
    try:
        source = io.BytesIO(store.read(media_keys.passages(key)))
        if not accepts(pl.read_parquet_metadata(source).get(FINGERPRINT)):
            return None
        source.seek(0)
        return pl.read_parquet(source)
    except (NotFound, pl.exceptions.PolarsError):
        return None


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """Title of a recording, and the day it was made, if known."""

    title: str
    recorded: date | None


def recipe_of(embedding_model: str, passage_s: float, version: str = VERSION) -> str:
    """Return everything that vectors and columns depend on: rows of two recipes are never in one table."""
    return f"{embedding_model} | passages of {passage_s:g} s, {OVERLAP_S:g} s of them twice | columns {version}"


def _searchable(transcript: Transcript, passage_options: PassageOptions) -> list[Segment]:
    return [item for item in transcript.segments if passage_options.low_confidence or not item.low_confidence]


def _language(transcript: Transcript, passage: passages.Passage) -> str:
    """Return the language of most of the passage, by time."""
    seconds: dict[str, float] = {}
    for segment in transcript.segments:
        common = min(segment.end, passage.end) - max(segment.start, passage.start)
        if common > 0 and segment.language and segment.speaker == passage.speaker:
            seconds[segment.language] = seconds.get(segment.language, 0.0) + common
    return max(seconds, key=lambda language: seconds[language]) if seconds else transcript.language


@dataclass(frozen=True, slots=True)
class KnownVectors:
    """Vectors by text, of passages and of sentences, which are encoded in other batches."""

    passages: Mapping[str, Vector] = field(default_factory=dict)
    sentences: Mapping[str, Vector] = field(default_factory=dict)


def known_vectors(store: Store, key: str, encoder: Encoder, passage_options: PassageOptions) -> KnownVectors:
    """Return the vectors of the recording's passages in the store, none if they have another recipe.

    A speaker who gets a name changes no text, so that nothing has to be encoded again.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    rows = _stored(store, key)
    recipes = {recipe_of(str(encoder.model), passage_options.passage_s, version) for version in SAME_VECTORS}
    if rows is None or not rows.height or "recipe" not in rows.columns or not set(rows["recipe"]) <= recipes:
        return KnownVectors()
    dimension = len(rows["vector"][0])
    vectors = rows["vector"].to_numpy()
    sentences = {
        sentence.text: vector
        for card, near in rows.select("card", "near").iter_rows()
        for sentence, vector in zip(decode_sentences(card), decode_vectors(near, dimension), strict=True)
    }
    return KnownVectors(dict(zip(rows["text"], vectors, strict=True)), sentences)


def _encoded(encoder: Encoder, texts: Sequence[str], known: Mapping[str, Vector]) -> dict[str, Vector]:
    """Return the vector of each text; only those that are not known are encoded."""
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    made = dict(zip(missing, encoder.encode(missing), strict=True)) if missing else {}
    return {text: made[text] if text in made else known[text] for text in texts}


def rows_of(
    transcript: Transcript,
    info: RecordingInfo,
    encoder: Encoder,
    passage_options: PassageOptions,
    known: KnownVectors | None = None,
    *,
    shown: Sequence[Slide] = (),
) -> pl.DataFrame:
    """Return the passages of a transcript and the slides with their vectors, as rows of the search table.

    Texts whose vectors are `known` are not encoded.

    Raises:
        TranscriptionError: the encoder refused or did not respond.

    """
    spoken = passages.cut_passages(
        _searchable(transcript, passage_options), target_s=passage_options.passage_s, overlap_s=OVERLAP_S
    )
    cut = [*spoken, *map(_slide_passage, shown)]
    numbers = [0] * len(spoken) + [slide.number for slide in shown]
    texts = [item.text for item in cut]
    sentences = list(dict.fromkeys(sentence.text for item in cut for sentence in item.sentences))
    known = known or KnownVectors()
    by_text = _encoded(encoder, texts, known.passages)
    vectors = np.stack([by_text[text] for text in texts]) if texts else encoder.encode(texts)
    # Encoded separately from the passages: a batch is padded to its longest text, and most sentences are short.
    sentence_vectors = _encoded(encoder, sentences, known.sentences)
    key = transcript.media.key
    each = len(cut)
    languages = [*(_language(transcript, item) for item in spoken), *[transcript.language] * len(shown)]
    return pl.DataFrame(
        {
            "id": [*(f"{key}#{item.index}" for item in spoken), *(f"{key}#slide{slide.number}" for slide in shown)],
            "kind": ["speech"] * len(spoken) + ["slide"] * len(shown),
            "media_key": [key] * each,
            "title": [info.title] * each,
            "start_s": [item.start for item in cut],
            "end_s": [item.end for item in cut],
            "text": texts,
            "language": languages,
            "speakers": [sorted({s.speaker for s in item.sentences if s.speaker}) for item in cut],
            "recorded": [info.recorded] * each,
            "duration_s": [transcript.duration] * each,
            "vector": vectors.tolist(),
            "embedding_model": [str(encoder.model)] * each,
            "recipe": [recipe_of(str(encoder.model), passage_options.passage_s)] * each,
            "media_etag": [transcript.media.etag] * each,
            "card": [
                encode_card(
                    key,
                    title=info.title,
                    language=language,
                    recorded=info.recorded,
                    duration_s=transcript.duration,
                    sentences=item.sentences,
                    slide=number,
                )
                for item, language, number in zip(cut, languages, numbers, strict=True)
            ],
            "near": [encode_vectors(np.stack([sentence_vectors[s.text] for s in item.sentences])) for item in cut],
        },
        schema=polars_schema(vectors.shape[1]),
    )


def _slide_passage(slide: Slide) -> passages.Passage:
    """Return a slide as a passage whose sentences are its paragraphs."""
    lines = slide.text.split("\n")
    sentences = tuple(passages.Sentence(slide.start, slide.end, line) for line in lines)
    return passages.Passage(slide.number, slide.start, slide.end, passages.join_sentences(sentences)[0], sentences)


def _recording_info(store: Store, transcript: Transcript) -> RecordingInfo:
    """Return the title (of the source, else the tags, else the file name) and the date (source, path, tags)."""
    known = origin.load(store, transcript.media.key)
    probed = video.load(store, transcript.media.key)
    name = PurePosixPath(media_keys.decode(transcript.media.key))
    title = (known.title if known else "") or (probed.probe.title if probed else "") or name.stem
    day = (known.recorded if known else None) or recorded_on(str(name))
    return RecordingInfo(printable_name(title), day or recorded_on(probed.probe.created if probed else ""))


def printable_name(name: str) -> str:
    """Return the name as printable text."""
    return printable(name)


def recorded_on(text: str) -> date | None:
    """Return the last date in a name or a tag (`2024-05-17`, `20240517`), None if there is none."""
    for year, month, day in reversed(_DAY.findall(text)):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            continue
    return None
