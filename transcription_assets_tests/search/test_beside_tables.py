"""Vocabularies and calibrations beside the tables of a folder and of a bucket."""

from transcription_assets.embedding import Weights
from transcription_assets.search.index import Index
from transcription_assets.search.query import parse_query
from transcription_assets.search.vocabulary import forms_of
from transcription_assets_tests.search.talks import CHESS, SEA, fill
from transcription_assets_tests.stores import Case


def opened(case: Case) -> Index:
    return Index(case.store.lancedb_uri, case.store.lancedb_options)


def test_another_process_reads_the_vocabulary_of_the_last_refresh(case: Case) -> None:
    index = opened(case)
    fill(index, SEA)
    pinned = index.snapshot()
    assert pinned
    assert not index.vocabulary(pinned)
    index.maintain()
    read = opened(case)
    pinned = read.snapshot()
    assert pinned
    vocabulary = read.vocabulary(pinned)
    assert vocabulary.languages == ("en",)
    assert forms_of(parse_query("metre 11 harbours"), vocabulary).looked_up == {
        "metre": ("metres",),
        "11": ("eleven",),
        "harbours": ("harbour",),
    }
    fill(index, CHESS)
    index.maintain()
    read.forget()
    pinned = read.snapshot()
    assert pinned
    assert "chess" in read.vocabulary(pinned)


def test_calibrations_are_shared_by_all_readers(case: Case) -> None:
    index = opened(case)
    fill(index, SEA)
    assert index.calibrated("a@1") is None
    index.calibrate("a@1", Weights(words=0.1))
    index.calibrate("b@2", Weights(words=0.2))
    assert index.calibrated("a@1") == Weights(words=0.1)
    assert opened(case).calibrated("b@2") == Weights(words=0.2)
