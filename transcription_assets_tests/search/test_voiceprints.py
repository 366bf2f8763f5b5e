"""The tables of voiceprints in a folder and in a bucket."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.search.index import Index
from transcription_assets.search.tables import Tables
from transcription_assets.search.voiceprints import PREFIX, Neighbour, Voiceprint, Voiceprints, table_name
from transcription_assets.storage import Store
from transcription_assets_tests import fault_proxy, seaweed
from transcription_assets_tests.stores import Case, bucket_case

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
            while other.replace([Voiceprint(key, "1", "m", Z)], [key]):
                pass  # until the table has the row: an erasure can undo a write

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            voiceprints.erase(["ada"])
        writing.result()
    assert sorted(row.media_key for row in other.of_recordings([*keys, A, B])) == sorted([*keys, B])


@pytest.mark.parametrize("path", ["/data/", "/_versions/"])
def test_a_write_that_an_erasure_undid_is_noticed(
    s3_endpoint: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    case = bucket_case(s3_endpoint)
    voiceprints = Voiceprints(case.store.lancedb_uri, case.store.lancedb_options)
    voiceprints.replace([Voiceprint(A, "1", "m", X, "ada"), Voiceprint(B, "1", "m", Y)], [A, B])
    rows = [Voiceprint("audio/c.wav", "1", "m", Z), Voiceprint(B, "1", "m", Z)]
    keys = [row.media_key for row in rows]
    with fault_proxy.between(s3_endpoint.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        slow = Store.open(case.store.url, s3_session=seaweed.session(), s3_endpoint=proxy.endpoint)
        other = Voiceprints(slow.lancedb_uri, slow.lancedb_options)
        held = fault_proxy.Held()
        proxy.fail(held, times=1, methods="PUT", path=path)
        writing = pool.submit(other.replace, rows, keys)
        assert held.reached.wait(60)
        voiceprints.erase(["ada"])
        voiceprints.erase(["ada"])
        held.released.set()
        assert writing.result()
        assert other.replace(rows, keys), "LanceDB committed, and the table does not have exactly these rows"
        assert not other.replace(rows, keys)
    found = voiceprints.of_recordings([A, *keys])
    assert sorted((row.media_key, row.vector) for row in found) == sorted((row.media_key, row.vector) for row in rows)


def test_rows_that_are_stored_twice_are_repaired(voiceprints: Voiceprints, case: Case) -> None:
    rows = [Voiceprint(A, "1", "m", X), Voiceprint(A, "2", "m", Z), Voiceprint(B, "1", "m", Y)]
    assert voiceprints.replace(rows, [A, B])
    table = Tables(case.store.lancedb_uri, dict(case.store.lancedb_options)).newest(table_name("m"))
    table.add(table.search().limit(None).to_arrow().slice(0, 2))
    assert len(voiceprints.of_recordings([A, B])) == 5
    assert voiceprints.replace(rows, [A, B])
    assert not voiceprints.replace(rows, [A, B])
    found = voiceprints.of_recordings([A, B])
    assert sorted((row.media_key, row.label) for row in found) == sorted((row.media_key, row.label) for row in rows)


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
