"""The tables of voiceprints in a folder and in a bucket."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


def test_people_and_recordings_with_a_similar_voice_are_found(voiceprints: Voiceprints) -> None:
    assert voiceprints.people_near("m", [X, Z], 0.1) == [[], []]
    assert voiceprints.recordings_near("m", [X], 0.1) == set()
    voiceprints.replace([Voiceprint(A, "1", "m", X, "ada"), Voiceprint(A, "2", "m", Z)], [A])
    voiceprints.replace([Voiceprint(B, "1", "m", Y)], [B])
    assert voiceprints.people_near("m", [Y, Z], 0.5) == [[Neighbour(A, "1", "ada", pytest.approx(0.8))], []]
    assert voiceprints.people_near("m", [Y], 0.81) == [[]]
    assert voiceprints.recordings_near("m", [X], 0.79) == {A, B}
    assert voiceprints.recordings_near("m", [X], 0.81) == {A}
    assert voiceprints.recordings_near("m", [], 0.0) == set()
    voiceprints.replace([Voiceprint(A, "1", "m", X)], [A])
    assert voiceprints.people_near("m", [Y], 0.5) == [[]]


def test_models_are_never_compared(voiceprints: Voiceprints) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", X), Voiceprint(B, "1", "other", (1.0, 0.0))], [A, B])
    assert voiceprints.recordings_near("m", [X], 0.1) == {A}
    assert voiceprints.recordings_near("other", [(1.0, 0.0)], 0.1) == {B}


def test_an_empty_voiceprint_is_similar_to_none(voiceprints: Voiceprints) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", (), "ada")], [A])
    assert voiceprints.of_people(["ada"]) == []
    voiceprints.replace([Voiceprint(A, "1", "m", (), "ada"), Voiceprint(A, "2", "m", X)], [A])
    (row,) = voiceprints.of_people(["ada"])
    assert (row.media_key, row.label) == (A, "1")
    assert voiceprints.people_near("m", [X, Y, Z], 0.1) == [[], [], []]


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


def contents(case: Case) -> bytes:
    return b"".join(case.store.read(path) for path in case.store.list("lancedb/"))


def test_erased_and_removed_rows_are_in_no_file(voiceprints: Voiceprints, case: Case) -> None:
    rows = [Voiceprint(A, "1", "m", X, "ada"), Voiceprint(A, "2", "m", Z), Voiceprint(B, "1", "m", Y)]
    voiceprints.replace(rows, [A, B])
    voiceprints.replace([rows[0], rows[2]], [A, B])
    assert all(np.array(vector, np.float32).tobytes() in contents(case) for vector in (X, Y, Z))
    voiceprints.erase(["ada"])
    assert np.array(Y, np.float32).tobytes() in contents(case)
    assert not any(np.array(vector, np.float32).tobytes() in contents(case) for vector in (X, Z))
    voiceprints.replace([Voiceprint(B, "1", "m", Y, "ben")], [B])
    assert [row.person for row in voiceprints.of_recordings([A, B])] == ["ben"]
    voiceprints.erase(["ben"])
    assert voiceprints.of_recordings([A, B]) == []


def test_rows_written_during_erasure_are_kept(voiceprints: Voiceprints, case: Case) -> None:
    voiceprints.replace([Voiceprint(A, "1", "m", X, "ada"), Voiceprint(B, "1", "m", Y)], [A, B])
    other = Voiceprints(case.store.lancedb_uri, case.store.lancedb_options)
    keys = [f"audio/{number}.wav" for number in range(6)]

    def write() -> None:
        for key in keys:
            other.replace([Voiceprint(key, "1", "m", Z)], [key])

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            voiceprints.erase(["ada"])
        writing.result()
    assert sorted(row.media_key for row in other.of_recordings([*keys, A, B])) == sorted([*keys, B])


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
