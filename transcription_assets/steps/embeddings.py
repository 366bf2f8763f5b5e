"""embeddings: passages with their vectors (`embeddings/<key>.parquet`) and their rows in the search table."""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

import numpy as np
import polars as pl

from transcription_assets import index, keys, passages
from transcription_assets.embedding import Encoder
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.index import Index, cards
from transcription_assets.steps import audio, failure, video
from transcription_assets.storage import Store
from transcription_assets.transcript import Segment, Transcript, from_json
from transcription_assets.words import printable

VERSION = "3"
OVERLAP_S = 8.0
"""Of the passage before, repeated at the start of the next one; what the evaluation says of it: docs/search.md."""
FINGERPRINT = "fingerprint"

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The rows of one recording, and whether they were there already."""

    key: str
    etag: str
    rows: pl.DataFrame
    sentences: int
    fingerprint: str
    reused: bool

    @property
    def is_complete(self) -> bool:
        """Whether every sentence of the transcript is in a passage."""
        held = {(item.start, item.text) for card in self.rows["card"] for item in cards.sentences_of(card)}
        return len(held) == self.sentences


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes into the search: passages of so many seconds, with or without the words that are in doubt."""

    passage_s: float = 30.0
    doubtful: bool = False


@failure.noted("embeddings")
def materialise(store: Store, key: str, encoder: Encoder, choice: Choice) -> Embeddings:
    """Cut the transcript into passages, encode them and each of their sentences. `publish` makes them searchable.

    What the transcript marks as doubtful stays out of the search unless `choice` says otherwise.
    """
    try:
        document = store.read(keys.transcript(key))
    except NotFound as error:
        raise PermanentFailure(f"{key}: there is no transcript yet; materialise `transcript` first") from error
    try:
        transcript = from_json(document)
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentFailure(f"{key}: its transcript is damaged ({error}); materialise `transcript` again") from error
    heard = audio.load(store, key)
    if heard is not None and heard.etag != transcript.media.etag:
        raise TransientFailure(f"{key}: the transcript is of another version of it; the new one is transcribed next")
    recipe = recipe_of(str(encoder.model), choice.passage_s)
    about = _about(store, transcript)
    fingerprint = hashlib.sha256(document + f"{recipe}|{about}|{choice.doubtful}".encode()).hexdigest()[:32]
    spoken = len({(item.start, item.text) for item in passages.sentences(_said(transcript, choice))})
    known = _load(store, key, fingerprint)
    if known is not None:
        return Embeddings(key, transcript.media.etag, known, spoken, fingerprint, reused=True)
    rows = rows_of(transcript, about, encoder, choice)
    target = io.BytesIO()
    rows.write_parquet(target, metadata={FINGERPRINT: fingerprint})
    store.write(keys.passages(key), target.getvalue())
    return Embeddings(key, transcript.media.etag, rows, spoken, fingerprint, reused=False)


def publish(store: Store, table: Index, made: Sequence[Embeddings]) -> None:
    """Replace the rows of these recordings in the search table, in one version; none where all are there already.

    Only then have they all that they need, and their notes of earlier failures go.
    """
    with failure.noting(store, [item.key for item in made], "embeddings"):
        stale = [item for item in made if not (item.reused and table.holds(item.rows, item.key))]
        if stale:
            table.replace(pl.concat([item.rows for item in stale]), [item.key for item in stale])
    for item in made:
        failure.forget(store, item.key)


def is_stored(store: Store, made: Embeddings) -> bool:
    """Whether the Parquet file in the store is the one of this materialisation."""
    return _load(store, made.key, made.fingerprint) is not None


def _load(store: Store, key: str, fingerprint: str) -> pl.DataFrame | None:
    """The passages in the store, if they were made from this transcript in this way."""
    try:
        source = io.BytesIO(store.read(keys.passages(key)))
        if pl.read_parquet_metadata(source).get(FINGERPRINT) != fingerprint:
            return None
        source.seek(0)
        return pl.read_parquet(source)
    except (NotFound, pl.exceptions.PolarsError):
        return None


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a recording beside its words: a title for people, and the day it was made, if anybody knows."""

    title: str
    recorded: date | None


def recipe_of(embedding_model: str, passage_s: float) -> str:
    """All that vectors and columns depend on: rows of two recipes are never in one table."""
    return f"{embedding_model} | passages of {passage_s:g} s, {OVERLAP_S:g} s of them twice | columns {VERSION}"


def _said(transcript: Transcript, choice: Choice) -> list[Segment]:
    return [item for item in transcript.segments if choice.doubtful or not item.doubt]


def _language(transcript: Transcript, passage: passages.Passage) -> str:
    """The language in which most of the passage is said."""
    seconds: dict[str, float] = {}
    for segment in transcript.segments:
        common = min(segment.end, passage.end) - max(segment.start, passage.start)
        if common > 0 and segment.language and segment.speaker == passage.speaker:
            seconds[segment.language] = seconds.get(segment.language, 0.0) + common
    return max(seconds, key=lambda language: seconds[language]) if seconds else transcript.language


def rows_of(transcript: Transcript, about: About, encoder: Encoder, choice: Choice) -> pl.DataFrame:
    """The passages of a transcript with their vectors, as rows of the search table."""
    cut = passages.cut(_said(transcript, choice), target_s=choice.passage_s, overlap_s=OVERLAP_S)
    texts = [item.text for item in cut]
    spoken = list(dict.fromkeys(sentence.text for item in cut for sentence in item.sentences))
    vectors = encoder.encode(texts)
    # Apart from the passages: a batch is as long as its longest text, and most sentences are short.
    sentence_vectors = dict(zip(spoken, encoder.encode(spoken), strict=True))
    key = transcript.media.key
    each = len(cut)
    languages = [_language(transcript, item) for item in cut]
    return pl.DataFrame(
        {
            "id": [f"{key}#{item.index}" for item in cut],
            "media_key": [key] * each,
            "title": [about.title] * each,
            "start_s": [item.start for item in cut],
            "end_s": [item.end for item in cut],
            "text": texts,
            "language": languages,
            "speakers": [sorted({s.speaker for s in item.sentences if s.speaker}) for item in cut],
            "recorded": [about.recorded] * each,
            "duration_s": [transcript.duration] * each,
            "vector": vectors.tolist(),
            "embedding_model": [str(encoder.model)] * each,
            "recipe": [recipe_of(str(encoder.model), choice.passage_s)] * each,
            "media_etag": [transcript.media.etag] * each,
            "card": [
                cards.card(
                    key,
                    title=about.title,
                    language=language,
                    recorded=about.recorded,
                    duration_s=transcript.duration,
                    sentences=item.sentences,
                )
                for item, language in zip(cut, languages, strict=True)
            ],
            "near": [
                cards.near(vector, np.stack([sentence_vectors[s.text] for s in item.sentences]))
                for item, vector in zip(cut, vectors, strict=True)
            ],
        },
        schema=index.schema(vectors.shape[1]),
    )


def _about(store: Store, transcript: Transcript) -> About:
    """From the recording's own tags, and from its name."""
    seen = video.load(store, transcript.media.key)
    name = PurePosixPath(keys.decode(transcript.media.key))
    title = (seen.probe.title if seen else "") or name.stem
    return About(shown(title), recorded_on(str(name)) or recorded_on(seen.probe.created if seen else ""))


def shown(name: str) -> str:
    """A name as text, as people are shown it."""
    return printable(name)


def recorded_on(text: str) -> date | None:
    """The day in a name or a tag (`2024-05-17`, `20240517`), the last one where there are several."""
    for year, month, day in reversed(_DAY.findall(text)):
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            continue
    return None
