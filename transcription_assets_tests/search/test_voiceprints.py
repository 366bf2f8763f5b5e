"""The tables of voiceprints in a folder and in a bucket."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.search.index import Index
from transcription_assets.search.voiceprints import PREFIX, Neighbour, Voiceprint, Voiceprints
from transcription_assets_tests.stores import Case

A, B = "audio/it's a.wav", "audio/b.wav"
X, Y, Z = (1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def voiceprints(case: Case) -> Voiceprints:
    return Voiceprints(case.store.lancedb_uri, case.store.lancedb_options)


def test_neighbours_are_sorted_and_bounded(voiceprints: Voiceprints) -> None:
    assert voiceprints.nearest("m", X, least=0.0, named=False) == []
    voiceprints.replace([Voiceprint(A, "1", "m", X, "ada"), Voiceprint(A, "2", "m", Z)], [A])
    voiceprints.replace([Voiceprint(B, "1", "m", Y)], [B])
    found = voiceprints.nearest("m", X, least=0.8, named=False)
    assert [(one.media_key, one.label, one.person) for one in found] == [(A, "1", "ada"), (B, "1", "")]
    assert [one.similarity for one in found] == pytest.approx([1.0, 0.8], abs=1e-5)
    assert voiceprints.nearest("m", X, least=0.81, named=False)[1:] == []
    assert voiceprints.nearest("m", Y, least=0.5, named=True) == [Neighbour(A, "1", "ada", pytest.approx(0.8))]


def test_models_are_never_compared(voiceprints: Voiceprints) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", X), Voiceprint(B, "1", "other", (1.0, 0.0))], [A, B])
    assert [one.media_key for one in voiceprints.nearest("m", X, least=0.0, named=False)] == [A]
    assert [one.media_key for one in voiceprints.nearest("other", (1.0, 0.0), least=0.0, named=False)] == [B]


def test_rows_of_a_recording_are_replaced_in_all_tables(voiceprints: Voiceprints) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", X), Voiceprint(A, "2", "m", Z)], [A])
    voiceprints.replace([Voiceprint(A, "1", "other", (1.0, 0.0), "ada")], [A])
    (only,) = voiceprints.of_recordings([A])
    assert (only.model, only.person) == ("other", "ada")
    assert voiceprints.of_people(["ada"]) == [only]
    voiceprints.replace([], [A])
    assert voiceprints.of_recordings([A, B]) == []


def test_equal_rows_make_no_version(voiceprints: Voiceprints, case: Case) -> None:
    rows = [Voiceprint(A, "1", "m", X, "ada")]
    voiceprints.replace(rows, [A])
    before = case.store.list("lancedb/")
    voiceprints.replace(rows, [A])
    assert case.store.list("lancedb/") == before


def test_erased_rows_are_in_no_file(voiceprints: Voiceprints, case: Case) -> None:
    import numpy as np

    voiceprints.replace([Voiceprint(A, "1", "m", X, "ada"), Voiceprint(B, "1", "m", Y)], [A, B])
    voiceprints.erase([(A, "1")])
    contents = b"".join(case.store.read(path) for path in case.store.list("lancedb/"))
    assert np.array(Y, np.float32).tobytes() in contents
    assert np.array(X, np.float32).tobytes() not in contents
    voiceprints.replace([Voiceprint(B, "1", "m", Y, "ben")], [B])
    assert [row.person for row in voiceprints.of_recordings([A, B])] == ["ben"]


def test_concurrent_writers_lose_nothing(voiceprints: Voiceprints) -> None:
    keys = [f"audio/{number}.wav" for number in range(8)]

    def write(key: str) -> None:
        voiceprints.replace([Voiceprint(key, "1", "m", X)], [key])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, keys * 2))
    assert sorted(row.media_key for row in voiceprints.of_recordings(keys)) == keys


def test_maintenance_of_passages_leaves_voiceprints_alone(voiceprints: Voiceprints, case: Case) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", X)], [A])
    index = Index(case.store.lancedb_uri, case.store.lancedb_options)
    index.maintain()
    index.remove([A])
    assert index.status() == []
    assert len(voiceprints.of_recordings([A])) == 1
    with pytest.raises(PermanentFailure):
        index.switch(f"{PREFIX}_0")
