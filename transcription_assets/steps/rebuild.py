"""rebuild: all transcripts once more into passages, vectors and rows, with the encoder of now; nothing is transcribed.

The rows go into the table of this encoder beside the served one, which is searched until the new one is complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from transcription_assets import keys
from transcription_assets.embedding import Encoder
from transcription_assets.failures import TranscriptionError
from transcription_assets.index import Index
from transcription_assets.steps import embeddings
from transcription_assets.steps.embeddings import Choice
from transcription_assets.storage import Store

PUBLISH_EVERY = 50
"""Recordings between two commits to the table."""


@dataclass(slots=True)
class Rebuilt:
    """How far it is: recordings in all, those done, and the reasons of those that are not."""

    total: int
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def rebuild(store: Store, table: Index, encoder: Encoder, choice: Choice) -> Iterator[Rebuilt]:
    """Fill the encoder's table from the transcripts; yields the growing report. What is there is not done again.

    It can be stopped and started again: what was published is kept. Switching is left to `Index.maintain`.
    What left the inbox and is still found stays so.
    """
    known = sorted({*store.list_media().frame["key"], *store.list_done()["key"], *table.recordings()})
    said = [key for key in known if store.exists(keys.transcript(key))]
    report = Rebuilt(len(said))
    waiting: list[embeddings.Embeddings] = []
    for number, key in enumerate(said, 1):
        try:
            waiting.append(embeddings.materialise(store, key, encoder, choice))
        except TranscriptionError as error:
            report.failed[key] = str(error)
        if len(waiting) >= PUBLISH_EVERY or number == len(said):
            embeddings.publish(store, table, waiting)
            report.done += [item.key for item in waiting]
            waiting = []
        yield report
