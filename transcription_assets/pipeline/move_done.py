"""done: move a recording to `DONE_video/` or `DONE_audio/` after its last step, if that is turned on."""

from collections.abc import Mapping, Sequence

from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.pipeline import embeddings, transcript
from transcription_assets.pipeline.embeddings import Embeddings
from transcription_assets.search.index import Index
from transcription_assets.storage import Store


def move(store: Store, table: Index, made: Sequence[Embeddings]) -> Mapping[str, TranscriptionError]:
    """Move the published recordings; return the error of each one that could not be moved.

    Later runs call it again. A recording that was replaced in the meantime stays: its new version is still to be
    processed.

    Raises:
        TranscriptionError: the search table cannot be read.

    """
    row_counts = table.row_counts([item.key for item in made])
    failed: dict[str, TranscriptionError] = {}
    for item in made:
        try:
            _require_outputs(store, item, row_counts.get((item.key, item.etag), 0))
            store.move_when_done(item.key, item.etag)
        except TranscriptionError as error:
            failed[item.key] = error
    return failed


def _require_outputs(store: Store, item: Embeddings, rows: int) -> None:
    """Raise PermanentFailure unless transcript, subtitles, passages and rows of this version are all there."""
    texts = [media_keys.transcript(item.key, suffix) for suffix in transcript.TEXTS]
    missing = [path for path in texts if not store.exists(path)]
    stored = transcript.load(store, item.key)
    if stored is None or stored.media.etag != item.etag:
        missing.append(media_keys.transcript(item.key))
    if not embeddings.is_stored(store, item):
        missing.append(media_keys.passages(item.key))
    if missing:
        raise PermanentFailure(
            f"{item.key}: not moved from the inbox, as {', '.join(missing)} is missing or was replaced; materialise it"
            " again",
            key=item.key,
            hint="materialise it again",
        )
    if rows != item.rows.height:
        raise PermanentFailure(
            f"{item.key}: not moved from the inbox, as the search table has {rows} of {item.rows.height} passages;"
            " materialise `embeddings` again",
            key=item.key,
            hint="materialise `embeddings` again",
        )
