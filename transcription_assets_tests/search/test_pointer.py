"""serving.json: each change applies to the current content, and no concurrent change is lost."""

import os
import subprocess
import sys

import pytest

from transcription_assets.errors import PermanentFailure
from transcription_assets.search.index import Index
from transcription_assets.search.schema import FIRST_TABLE, table_name
from transcription_assets.search.tables import Tables
from transcription_assets_tests import seaweed
from transcription_assets_tests.search.test_writers import SHARED, rows
from transcription_assets_tests.stores import Case

TURNS = 20
OLD, NEW = "old", "new"


def tables(case: Case) -> Tables:
    return Tables(case.store.lancedb_uri, case.store.lancedb_options)


def test_two_processes_changing_the_pointer_lose_no_change(case: Case) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, case.store.lancedb_uri, str(number)],
            stdin=subprocess.PIPE,
            env=os.environ | seaweed.OWNER.variables | {"OPTIONS": repr(case.store.lancedb_options)},
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    said = tables(case).pointer()
    assert said == {f"{number}-{turn}": "x" for number in range(2) for turn in range(TURNS)}


def test_writer_does_not_revert_a_finished_switch(case: Case) -> None:
    index = Index(case.store.lancedb_uri, case.store.lancedb_options)
    for model in (OLD, NEW):
        index.replace(rows(SHARED, "1", model=model), [SHARED])
    other = Index(case.store.lancedb_uri, case.store.lancedb_options)
    stale = tables(case).pointer()
    assert (stale["table"], stale["building"]) == (table_name(OLD), table_name(NEW))
    late = tables(case)
    asked = []

    def change(said: dict[str, str]) -> dict[str, str]:
        asked.append(said)
        if len(asked) == 2 and not case.store.is_local:  # after the pointer was read, before the change is written
            other.switch(table_name(NEW))
        return {**said, "building": table_name("third")}

    if case.store.is_local:
        other.maintain()
    said = late.change_pointer(change)
    assert said["table"] == table_name(NEW)
    assert said["before"] == table_name(OLD)
    assert tables(case).pointer() == said


def test_maintenance_keeps_tables_that_a_writer_still_fills(case: Case) -> None:
    index = Index(case.store.lancedb_uri, case.store.lancedb_options)
    index.replace(rows(SHARED, "1", model=OLD), [SHARED])
    index.replace(rows(SHARED, "1", model=NEW), [SHARED])
    index.replace(rows("video/b.mp4", "1", model="third"), ["video/b.mp4"])
    index.switch(table_name(NEW), even_incomplete=True)
    assert tables(case).pointer()["building"] == table_name("third")
    index.maintain()
    assert set(tables(case).names(FIRST_TABLE)) == {table_name(OLD), table_name(NEW), table_name("third")}


@pytest.mark.parametrize("damaged", [b"[]", b"{", b"", b'"x"'])
def test_damaged_pointer_is_named_and_no_table_is_dropped(case: Case, damaged: bytes) -> None:
    index = Index(case.store.lancedb_uri, case.store.lancedb_options)
    index.replace(rows(SHARED, "1"), [SHARED])
    case.put("lancedb/serving.json", damaged)
    for attempt in (index.maintain, index.status, index.count):
        with pytest.raises(PermanentFailure) as failure:
            attempt()
        assert "serving.json" in str(failure.value)
    assert tables(case).names(FIRST_TABLE) == [table_name("none")]


if __name__ == "__main__":
    from ast import literal_eval

    own = Tables(sys.argv[1], literal_eval(os.environ["OPTIONS"]))
    sys.stdin.readline()
    for turn in range(TURNS):
        own.change_pointer(lambda said, turn=turn: {**said, f"{sys.argv[2]}-{turn}": "x"})
