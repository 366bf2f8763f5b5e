"""Questions of two neighbouring content words of the labelled talks: the first result starts in a sentence with both.

python -m benchmarks.neighbours

Bar: no question starts in another sentence. Takes about a minute.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from benchmarks.machine import MODELS, describe
from transcription_assets import models
from transcription_assets.domain.passages import cut_sentences
from transcription_assets.embedding import SentenceEncoder
from transcription_assets.evaluation.labelled_search import indexed
from transcription_assets.evaluation.search_quality import Talk, talks
from transcription_assets.search.query import Mode, Query, is_frequent, tokens
from transcription_assets.search.searcher import Searcher

Places = Mapping[str, set[tuple[str, float, float]]]
"""Question -> (media key, start, end) of the sentences with both words."""


def main() -> int:
    print(describe())
    located = models.locate("all-MiniLM-L6-v2", "encoder", MODELS)
    encoder = SentenceEncoder(located.path, name=located.name, revision=located.revision, device="cpu")
    recorded = talks()
    pairs = content_pairs(recorded)
    held = True
    with indexed(recorded, encoder, 30.0) as table:
        searcher = Searcher(table, lambda _model: encoder)
        for mode in (Mode.HYBRID, Mode.TEXT):
            started = time.perf_counter()
            missed = _missed(searcher, pairs, mode)
            print(
                f"{mode.value}: {len(missed)} of {len(pairs)} questions start in another sentence, "
                f"{(time.perf_counter() - started) * 1000 / len(pairs):.0f} ms each {missed[:10]}",
                flush=True,
            )
            held &= not missed
    print(f"the bar is 0: {'held' if held else 'MISSED'}")
    return int(not held)


def content_pairs(recorded: Sequence[Talk]) -> Places:
    """Return every pair of neighbouring, infrequent words with the places of the sentences that contain it."""
    found: dict[str, set[tuple[str, float, float]]] = {}
    for talk in recorded:
        for said in cut_sentences(talk.transcript.segments):
            for one, other in pairwise(tokens(said.text)):
                if not is_frequent(one) and not is_frequent(other):
                    place = (talk.transcript.media.key, said.start, said.end)
                    found.setdefault(f"{one.text} {other.text}".lower(), set()).add(place)
    return found


def _missed(searcher: Searcher, pairs: Places, mode: Mode) -> list[str]:
    missed = []
    for question, places in pairs.items():
        first = searcher.search(Query(question, mode=mode, limit=1)).hits[0]
        # A moment in a sentence of more than 10 s starts shortly before its words.
        if not any(first.media_key == key and start <= first.start < end for key, start, end in places):
            missed.append(question)
    return missed


if __name__ == "__main__":
    sys.exit(main())
