"""embeddings: passages with their vectors (`embeddings/<key>.parquet`) and their rows in the search table."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from transcription_assets import index, keys, passages
from transcription_assets.embedding import Encoder
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.index import Index
from transcription_assets.steps import audio
from transcription_assets.storage import Store
from transcription_assets.transcript import Transcript, from_json

VERSION = "2"
FINGERPRINT = "fingerprint"


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
        held = {(item["start_s"], item["text"]) for group in self.rows["sentences"].to_list() for item in group}
        return len(held) == self.sentences


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes into the search: passages of so many seconds, with or without the words that are in doubt."""

    passage_s: float = 30.0
    doubtful: bool = False


def materialise(store: Store, key: str, encoder: Encoder, choice: Choice) -> Embeddings:
    """Cut the transcript into passages, encode them and each of their sentences. `publish` makes them searchable.

    What the transcript marks as doubtful stays out of the search unless `choice` says otherwise.
    """
    try:
        document = store.read(keys.transcript(key))
    except NotFound as error:
        raise PermanentFailure(f"{key}: there is no transcript yet; materialise `transcript` first") from error
    transcript = from_json(document)
    heard = audio.load(store, key)
    if heard is not None and heard.etag != transcript.media.etag:
        raise TransientFailure(f"{key}: the transcript is of another version of it; the new one is transcribed next")
    fingerprint = hashlib.sha256(document + f"{encoder.model}|{choice}|{VERSION}".encode()).hexdigest()[:32]
    said = [item for item in transcript.segments if choice.doubtful or not item.doubt]
    spoken = len({(item.start, item.text) for item in passages.sentences(said)})
    known = _load(store, key, fingerprint)
    if known is not None:
        return Embeddings(key, transcript.media.etag, known, spoken, fingerprint, reused=True)
    rows = _rows(transcript, passages.cut(said, target_s=choice.passage_s), encoder)
    target = io.BytesIO()
    rows.write_parquet(target, metadata={FINGERPRINT: fingerprint})
    store.write(keys.passages(key), target.getvalue())
    return Embeddings(key, transcript.media.etag, rows, spoken, fingerprint, reused=False)


def publish(table: Index, made: Sequence[Embeddings]) -> None:
    """Replace the rows of these recordings in the search table, in one version."""
    if made:
        table.replace(pl.concat([item.rows for item in made]), [item.key for item in made])


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


def _language(transcript: Transcript, passage: passages.Passage) -> str:
    """The language in which most of the passage is said."""
    seconds: dict[str, float] = {}
    for segment in transcript.segments:
        common = min(segment.end, passage.end) - max(segment.start, passage.start)
        if common > 0 and segment.language and segment.speaker == passage.speaker:
            seconds[segment.language] = seconds.get(segment.language, 0.0) + common
    return max(seconds, key=lambda language: seconds[language]) if seconds else transcript.language


def _rows(transcript: Transcript, cut: Sequence[passages.Passage], encoder: Encoder) -> pl.DataFrame:
    texts = [item.text for item in cut]
    spoken = list(dict.fromkeys(sentence.text for item in cut for sentence in item.sentences))
    vectors = encoder.encode(texts)
    # Apart from the passages: a batch is as long as its longest text, and most sentences are short.
    sentence_vectors = dict(zip(spoken, encoder.encode(spoken), strict=True))
    key = transcript.media.key
    return pl.DataFrame(
        {
            "id": [f"{key}#{item.index}" for item in cut],
            "media_key": [key] * len(cut),
            "start_s": [item.start for item in cut],
            "end_s": [item.end for item in cut],
            "text": texts,
            "language": [_language(transcript, item) for item in cut],
            "speaker": [item.speaker or None for item in cut],
            "vector": vectors.tolist(),
            "embedding_model": [str(encoder.model)] * len(cut),
            "media_etag": [transcript.media.etag] * len(cut),
            "sentences": [
                [{"start_s": s.start, "end_s": s.end, "text": s.text} for s in item.sentences] for item in cut
            ],
            "sentence_vectors": [[sentence_vectors[s.text].tolist() for s in item.sentences] for item in cut],
        },
        schema=index.schema(vectors.shape[1]),
    )
