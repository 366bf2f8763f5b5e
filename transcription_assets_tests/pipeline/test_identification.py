"""Names of speakers in one recording and in others with the same voice, with a FAKE diariser."""

import shutil
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.people import Identity, InvalidChange, Person
from transcription_assets.domain.speakers import Turn
from transcription_assets.errors import TransientFailure
from transcription_assets.pipeline import embeddings, identification, people, records, speakers, transcript
from transcription_assets.pipeline.identification import IdentificationTools, Target
from transcription_assets.search.voiceprints import Voiceprints
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, voices
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.voices import ADAS, ADAS_ELSEWHERE, BENS, CLAUDES, MODEL, Voices, all_is_speech

A, B, C = "audio/10.wav", "audio/20.wav", "audio/30.wav"
SPOKEN = {10: ADAS, 20: ADAS_ELSEWHERE, 30: CLAUDES}


@dataclass
class Archive:
    """Recordings A and B with Ada's voice, C with another, each with Ben's; all are processed."""

    chain: Chain
    voices: Voices

    @property
    def store(self) -> Store:
        return self.chain.store

    @property
    def tools(self) -> IdentificationTools:
        return self.chain.tools.identification

    def update(self, keys: Iterable[str]) -> None:
        assert [error for _, error in identification.update(self.tools, sorted(keys)) if error] == []

    def name(self, key: str, label: str, name: str) -> Person:
        person = people.create(self.store, name)
        self.update(identification.confirm(self.tools, Target(key, label), person))
        return person

    def names(self, key: str) -> list[str]:
        """Return the names in the transcript, in order, after checking that the subtitles and the search have them."""
        made = transcript.load(self.store, key)
        assert made is not None
        found = list(dict.fromkeys(segment.speaker for segment in made.segments))
        subtitles = self.store.read(media_keys.transcript(key, ".vtt")).decode()
        assert all(f"<v {name}>" in subtitles for name in found)
        rows = self.chain.rows()
        searchable = rows.filter(rows["media_key"] == key)["speakers"].explode().unique().to_list()
        assert set(searchable) == set(found)
        return found


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.conversations(tmp_path_factory.mktemp("processed"), SPOKEN)


@pytest.fixture
def archive(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    all_is_speech(monkeypatch)
    shutil.copytree(processed, tmp_path, dirs_exist_ok=True)
    diariser = Voices({**SPOKEN})
    return Archive(Chain(Store.open(str(tmp_path)), diariser=diariser), diariser)


def test_naming_one_suggests_the_person_elsewhere(archive: Archive) -> None:
    assert archive.names(A) == archive.names(C) == ["Speaker 1", "Speaker 2"]
    ada = archive.name(A, "1", "Ada")
    assert archive.names(A) == ["Ada", "Speaker 2"]
    assert archive.names(B) == ["Ada?", "Speaker 2"]
    assert archive.names(C) == ["Speaker 1", "Speaker 2"]
    found = speakers.load(archive.store, B)
    assert found
    assert identification.load(archive.store, found)[0] == Identity("1", "Ada?", "suggested", ada.id, 0.96)


def test_only_confirmed_voices_lead_to_suggestions(archive: Archive) -> None:
    """B is similar to A, and C to B, but C is not similar to A."""
    archive.voices.first[30] = (0.0, 1.0, 0.0)
    archive.voices.first[10] = (1.0, 0.0, 0.0)
    archive.voices.model = f"{MODEL}2"
    archive.chain.run(A, B, C)
    archive.name(A, "1", "Ada")
    assert archive.names(B)[0] == "Ada?"
    assert archive.names(C)[0] == "Speaker 1"


def test_no_text_is_encoded_again_for_a_name(archive: Archive) -> None:
    archive.chain.encoder.encoded.clear()
    archive.name(A, "1", "Ada")
    assert archive.chain.encoder.encoded == []


def test_names_survive_another_diarisation(archive: Archive) -> None:
    archive.name(A, "1", "Ada")
    archive.voices.swapped, archive.voices.options = True, {"threshold": 1}
    archive.chain.run(A, B, C)
    assert archive.names(A) == ["Ada", "Speaker 1"]
    assert archive.names(B) == ["Ada?", "Speaker 1"]


def test_names_survive_another_transcription(archive: Archive) -> None:
    archive.name(A, "1", "Ada")
    archive.store.delete(media_keys.transcript(A))
    archive.chain.run(A)
    assert archive.names(A) == ["Ada", "Speaker 2"]


def test_a_recording_that_comes_later_gets_a_suggestion(archive: Archive, tmp_path: Path) -> None:
    archive.name(A, "2", "Ben")
    archive.voices.first[40] = CLAUDES
    recordings.tone(tmp_path / "audio/40.wav", 40, rate=8_000)
    archive.chain.run("audio/40.wav")
    assert archive.names("audio/40.wav") == ["Speaker 1", "Ben?"]


def test_rejected_suggestions_do_not_return(archive: Archive) -> None:
    archive.name(A, "1", "Ada")
    archive.update(identification.reject(archive.tools, Target(B, "1")))
    assert archive.names(B) == ["Speaker 1", "Speaker 2"]
    archive.chain.run(B)
    assert archive.names(B) == ["Speaker 1", "Speaker 2"]
    with pytest.raises(InvalidChange):
        identification.reject(archive.tools, Target(B, "1"))


def test_a_withdrawn_name_disappears_everywhere(archive: Archive) -> None:
    archive.name(A, "1", "Ada")
    archive.update(identification.withdraw(archive.tools, Target(A, "1")))
    assert archive.names(A) == archive.names(B) == ["Speaker 1", "Speaker 2"]


def test_renamed_and_merged_people_are_renamed_everywhere(archive: Archive) -> None:
    ada, lovelace = archive.name(A, "1", "Ada"), archive.name(C, "1", "A. Lovelace")
    archive.update(identification.rename(archive.tools, ada, "Ada L."))
    assert [archive.names(key)[0] for key in (A, B, C)] == ["Ada L.", "Ada L.?", "A. Lovelace"]
    archive.update(identification.merge(archive.tools, ada, lovelace))
    assert [archive.names(key)[0] for key in (A, B, C)] == ["A. Lovelace", "A. Lovelace?", "A. Lovelace"]
    assert [person.name for person in people.everyone(archive.store)] == ["A. Lovelace"]
    with pytest.raises(InvalidChange):
        people.merge(archive.store, lovelace, people.find(archive.store, lovelace.id))


def test_a_person_is_divided_by_naming_again(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    archive.update(identification.confirm(archive.tools, Target(B, "1"), ada))
    assert archive.names(B)[0] == "Ada"
    archive.name(B, "1", "Ada")  # another person of this name
    assert len(people.matching(archive.store, "ada")) == 2
    with pytest.raises(InvalidChange):
        people.find(archive.store, "Ada")
    assert people.find(archive.store, ada.id) == ada


def test_lost_voiceprints_are_published_again(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, lost = archive.tools, iter([True, True])
    tools.voiceprints.replace([], [A])
    replace = tools.voiceprints.replace
    monkeypatch.setattr(tools.voiceprints, "replace", lambda *given: next(lost, False) or replace(*given))
    identification.publish(tools.store, tools.voiceprints, [A])
    assert {row.label for row in tools.voiceprints.of_recordings([A])} == {"1", "2"}


def test_voiceprints_that_never_stay_are_reported(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = archive.tools
    monkeypatch.setattr(tools.voiceprints, "replace", lambda *_: True)
    with pytest.raises(TransientFailure):
        identification.publish(tools.store, tools.voiceprints, [A])


def traces(archive: Archive, *contents: bytes) -> list[str]:
    """Return the files of the store that hold one of these contents; old versions of the search table are removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that readers of old versions fail
        archive.chain.table().optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    files = [path for path in Path(archive.store.url).rglob("*") if path.is_file()]
    return [str(path) for path in files if any(content in path.read_bytes() for content in contents)]


def bytes_of(*vectors: tuple[float, ...]) -> list[bytes]:
    return [np.array(vector, np.float32).tobytes() for vector in vectors]


def assert_forgotten(archive: Archive, ada: Person) -> None:
    assert archive.names(A) == archive.names(B) == ["Speaker 1", "Speaker 2"]
    assert people.everyone(archive.store) == []
    assert traces(archive, ada.id.encode(), b"Lovelace", *bytes_of(ADAS, ADAS_ELSEWHERE)) == []
    assert traces(archive, *bytes_of(BENS, CLAUDES))
    for key in (A, B):
        found = speakers.load(archive.store, key)
        assert found
        assert set(found.voiceprints) == {"2"}


def test_forgetting_removes_name_and_voiceprints(archive: Archive) -> None:
    ada = archive.name(A, "1", "Lovelace")
    assert traces(archive, ada.id.encode())
    assert traces(archive, b"Lovelace")
    assert all(traces(archive, content) for content in bytes_of(ADAS, ADAS_ELSEWHERE))
    assert identification.forget(archive.tools, ada) == 2
    assert_forgotten(archive, ada)


def test_a_forgotten_voice_gets_no_voiceprint_again(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    identification.forget(archive.tools, ada)
    archive.voices.options = {"threshold": 1}
    archive.chain.run(A, B, C)
    rows = archive.tools.voiceprints.of_recordings([A, B, C])
    assert sorted((row.media_key, row.label) for row in rows) == [(A, "2"), (B, "2"), (C, "1"), (C, "2")]
    archive.update(identification.withdraw(archive.tools, Target(A, "1")))
    archive.voices.options = {"threshold": 2}
    archive.chain.run(A)
    assert {row.label for row in archive.tools.voiceprints.of_recordings([A])} == {"2"}


@pytest.mark.parametrize("write", [0, 1, 2, 3, 5, 8, 11, 14, 18, 23])
def test_forgetting_can_be_repeated_after_any_write(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    ada = archive.name(A, "1", "Lovelace")
    remaining = iter(range(write))

    def interrupted(change: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if next(remaining, None) is None:
                raise KeyboardInterrupt
            change(*arguments)

        return call

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        for method in ("write", "delete"):
            patch.setattr(Store, method, interrupted(getattr(Store, method)))
        for method in ("replace", "erase"):
            patch.setattr(Voiceprints, method, interrupted(getattr(Voiceprints, method)))
        identification.forget(archive.tools, ada)
    if left := people.resolve(archive.store, [ada.id]).get(ada.id):
        identification.forget(archive.tools, left)
    assert_forgotten(archive, ada)


def test_forgetting_reaches_recordings_that_were_removed(archive: Archive) -> None:
    ada = archive.name(A, "1", "Lovelace")
    archive.update(identification.confirm(archive.tools, Target(B, "1"), ada))
    record = archive.store.read(media_keys.speakers(A))
    archive.store.delete(media_keys.speakers(A))
    archive.tools.voiceprints.replace([], [A])
    identification.forget(archive.tools, ada)
    assert traces(archive, *bytes_of(ADAS)) == []
    archive.store.write(media_keys.speakers(A), record)  # the recording returns
    archive.voices.options = {"threshold": 1}
    archive.chain.run(A)
    assert {row.label for row in archive.tools.voiceprints.of_recordings([A])} == {"2"}


def test_a_person_without_voiceprint_is_renamed_everywhere(archive: Archive) -> None:
    identification.forget(archive.tools, archive.name(A, "1", "Ada"))
    bob = archive.name(A, "1", "Bob")
    archive.update(identification.rename(archive.tools, bob, "Robert"))
    assert archive.names(A)[0] == "Robert"


def test_a_merged_person_can_be_rejected(archive: Archive) -> None:
    ada, lovelace = archive.name(A, "1", "Ada"), archive.name(C, "1", "A. Lovelace")
    archive.update(identification.merge(archive.tools, ada, lovelace))
    archive.update(identification.reject(archive.tools, Target(A, "1")))
    assert archive.names(A)[0] == "Speaker 1"


def test_people_merged_into_each_other_at_once_are_one(archive: Archive) -> None:
    ada, lovelace = people.create(archive.store, "Ada"), people.create(archive.store, "A. Lovelace")
    people.merge(archive.store, ada, lovelace)
    people.merge(archive.store, lovelace, ada)
    (one,) = people.everyone(archive.store)
    assert people.resolve(archive.store, [ada.id, lovelace.id]) == {ada.id: one, lovelace.id: one}
    assert people.merged_ids(archive.store, one) == {ada.id, lovelace.id}


def test_changes_about_speakers_of_before_are_refused(archive: Archive) -> None:
    seen = speakers.load(archive.store, A)
    assert seen
    archive.voices.swapped, archive.voices.options = True, {"threshold": 1}
    archive.chain.run(A)
    with pytest.raises(InvalidChange):
        identification.name(archive.tools, Target(A, "1", seen.fingerprint), "Ada")
    assert people.everyone(archive.store) == []


def test_identities_of_other_turns_do_not_count(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    archive.voices.swapped, archive.voices.options = True, {"threshold": 1}
    speakers.materialise(archive.store, A, archive.chain.tools.speaker_tools)
    found = speakers.load(archive.store, A)
    assert found
    assert identification.load(archive.store, found) == ()
    identification.publish(archive.store, archive.tools.voiceprints, [A])
    (row,) = archive.tools.voiceprints.of_people([ada.id])
    assert (row.label, row.vector) == ("2", pytest.approx(ADAS))


def test_a_batch_does_not_undo_a_name_of_meanwhile(archive: Archive) -> None:
    made = embeddings.materialise(archive.store, A, archive.chain.encoder, archive.tools.passage_options)
    archive.name(A, "1", "Ada")
    embeddings.publish(archive.store, archive.tools.table, [replace(made, reused=False)])
    assert archive.names(A)[0] == "Ada"


def test_two_who_always_talk_at_once_are_told_apart(archive: Archive) -> None:
    made = speakers.load(archive.store, A)
    assert made
    turns = (Turn(0.0, 10.0, "1", overlap=True), Turn(0.0, 10.0, "2", overlap=True))
    records.write(archive.store, media_keys.speakers(A), asdict(replace(made, turns=turns, reused=False)))
    archive.name(A, "1", "Ada")
    archive.name(A, "2", "Ben")
    names = [one.name for one in identification.identify(archive.store, archive.tools.voiceprints, A)]
    assert names == ["Ada", "Ben"]


def test_unknown_recordings_and_labels_are_refused(archive: Archive) -> None:
    ada = people.create(archive.store, "Ada")
    with pytest.raises(InvalidChange):
        identification.confirm(archive.tools, Target("audio/none.wav", "1"), ada)
    with pytest.raises(InvalidChange):
        identification.confirm(archive.tools, Target(A, "3"), ada)
    assert people.all_statements(archive.store) == {}


def test_statements_about_a_nested_key_are_not_mixed(archive: Archive) -> None:
    """A folder may have the name of a recording."""
    ada = people.create(archive.store, "Ada")
    identification.confirm(archive.tools, Target(A, "1"), ada)
    (path,) = archive.store.list(media_keys.statements())
    archive.store.write(f"{media_keys.statements(A)}b.wav/1.json", archive.store.read(path))
    assert len(people.statements(archive.store, A)) == 1


def test_damaged_records_are_ignored(archive: Archive) -> None:
    archive.store.write(f"{media_keys.statements(A)}1.json", b"{")
    archive.store.write(f"{media_keys.people('0123456789ab')}1.json", b"[]")
    archive.store.write(media_keys.identities(A), b"{}")
    archive.chain.run(A)
    assert archive.names(A) == ["Speaker 1", "Speaker 2"]
    assert people.everyone(archive.store) == []


def test_a_thousand_names_are_listed(archive: Archive) -> None:
    for number in range(1000):
        people.create(archive.store, f"<b>Person {number:04}</b>")
    found = people.everyone(archive.store)
    assert [person.name for person in found] == [f"<b>Person {number:04}</b>" for number in range(1000)]


def test_markup_in_a_name_is_escaped_in_subtitles(archive: Archive) -> None:
    person = people.create(archive.store, "<i>Ada</i> & co")
    archive.update(identification.confirm(archive.tools, Target(A, "1"), person))
    subtitles = archive.store.read(media_keys.transcript(A, ".vtt")).decode()
    assert "<i>" not in subtitles
    assert "&lt;i&gt;Ada" in subtitles
