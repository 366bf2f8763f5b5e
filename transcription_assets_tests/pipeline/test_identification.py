"""Names of speakers in one recording and in others with the same voice, with a FAKE diariser."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.people import Identity, Person
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import identification, people, speakers, transcript
from transcription_assets.pipeline.identification import IdentificationTools
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.voices import ADAS, ADAS_ELSEWHERE, CLAUDES, MODEL, Voices, all_is_speech

A, B, C = "audio/10.wav", "audio/20.wav", "audio/30.wav"


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
        self.update(identification.confirm(self.tools, key, label, person))
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


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    all_is_speech(monkeypatch)
    voices = Voices({10: ADAS, 20: ADAS_ELSEWHERE, 30: CLAUDES})
    made = Archive(Chain(Store.open(str(tmp_path)), diariser=voices), voices)
    for seconds in (10, 20, 30):
        recordings.tone(tmp_path / f"audio/{seconds}.wav", seconds, rate=8_000)
    made.chain.run(A, B, C)
    return made


def test_naming_one_suggests_the_person_elsewhere(archive: Archive) -> None:
    assert archive.names(A) == archive.names(C) == ["Speaker 1", "Speaker 2"]
    ada = archive.name(A, "1", "Ada")
    assert archive.names(A) == ["Ada", "Speaker 2"]
    assert archive.names(B) == ["Ada?", "Speaker 2"]
    assert archive.names(C) == ["Speaker 1", "Speaker 2"]
    found = identification.load(archive.store, B)
    assert found
    assert found.speakers[0] == Identity("1", "Ada?", "suggested", ada.id, 0.96)


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
    archive.update(identification.reject(archive.tools, B, "1"))
    assert archive.names(B) == ["Speaker 1", "Speaker 2"]
    archive.chain.run(B)
    assert archive.names(B) == ["Speaker 1", "Speaker 2"]
    with pytest.raises(PermanentFailure):
        identification.reject(archive.tools, B, "1")


def test_a_withdrawn_name_disappears_everywhere(archive: Archive) -> None:
    archive.name(A, "1", "Ada")
    archive.update(identification.withdraw(archive.tools, A, "1"))
    assert archive.names(A) == archive.names(B) == ["Speaker 1", "Speaker 2"]


def test_renamed_and_merged_people_are_renamed_everywhere(archive: Archive) -> None:
    ada, lovelace = archive.name(A, "1", "Ada"), archive.name(C, "1", "A. Lovelace")
    archive.update(identification.rename(archive.tools, ada, "Ada L."))
    assert [archive.names(key)[0] for key in (A, B, C)] == ["Ada L.", "Ada L.?", "A. Lovelace"]
    archive.update(identification.merge(archive.tools, ada, lovelace))
    assert [archive.names(key)[0] for key in (A, B, C)] == ["A. Lovelace", "A. Lovelace?", "A. Lovelace"]
    assert [person.name for person in people.everyone(archive.store)] == ["A. Lovelace"]
    with pytest.raises(PermanentFailure):
        people.merge(archive.store, lovelace, people.find(archive.store, lovelace.id))


def test_a_person_is_divided_by_naming_again(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    archive.update(identification.confirm(archive.tools, B, "1", ada))
    assert archive.names(B)[0] == "Ada"
    archive.name(B, "1", "Ada")  # another person of this name
    assert len(people.matching(archive.store, "ada")) == 2
    with pytest.raises(PermanentFailure):
        people.find(archive.store, "Ada")
    assert people.find(archive.store, ada.id) == ada


def test_forgetting_removes_name_and_voiceprints(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    archive.update(identification.forget(archive.tools, ada))
    assert archive.names(A) == archive.names(B) == ["Speaker 1", "Speaker 2"]
    assert people.everyone(archive.store) == []
    files = [path for path in Path(archive.store.url).rglob("*") if path.is_file()]
    vectors = [np.array(vector, np.float32).tobytes() for vector in (ADAS, ADAS_ELSEWHERE)]
    tables = [path for path in files if "voiceprints" in str(path)]
    assert tables
    assert not any(vector in path.read_bytes() for path in tables for vector in vectors)
    records = [path for path in files if path.parts[-3] in {"people", "statements", "speakers", "identities"}]
    assert not any(b"Ada" in path.read_bytes() for path in files if path in records)
    for key in (A, B):
        found = speakers.load(archive.store, key)
        assert found
        assert set(found.voiceprints) == {"2"}


def test_a_forgotten_voice_gets_no_voiceprint_again(archive: Archive) -> None:
    ada = archive.name(A, "1", "Ada")
    archive.update(identification.forget(archive.tools, ada))
    archive.voices.options = {"threshold": 1}
    archive.chain.run(A, B, C)
    rows = archive.tools.voiceprints.of_recordings([A, B, C])
    assert sorted((row.media_key, row.label) for row in rows) == [(A, "2"), (B, "2"), (C, "1"), (C, "2")]


def test_forgetting_can_be_repeated_after_an_interruption(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = archive.name(A, "1", "Ada")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(people, "remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            identification.forget(archive.tools, ada)
    archive.update(identification.forget(archive.tools, people.find(archive.store, "Ada")))
    assert archive.names(A) == ["Speaker 1", "Speaker 2"]
    assert people.all_statements(archive.store).keys() == {
        path for path, record in people.all_statements(archive.store).items() if record.statement.verdict == "withheld"
    }


def test_unknown_recordings_and_labels_are_refused(archive: Archive) -> None:
    ada = people.create(archive.store, "Ada")
    with pytest.raises(PermanentFailure):
        identification.confirm(archive.tools, "audio/none.wav", "1", ada)
    with pytest.raises(PermanentFailure):
        identification.confirm(archive.tools, A, "3", ada)
    assert people.all_statements(archive.store) == {}


def test_statements_about_a_nested_key_are_not_mixed(archive: Archive) -> None:
    """A folder may have the name of a recording."""
    ada = people.create(archive.store, "Ada")
    identification.confirm(archive.tools, A, "1", ada)
    (path,) = archive.store.list(media_keys.statements())
    archive.store.write(f"{media_keys.statements(A)}b.wav/1.json", archive.store.read(path))
    assert len(people.statements(archive.store, A)) == 1


def test_damaged_records_are_ignored(archive: Archive) -> None:
    archive.store.write(f"{media_keys.statements(A)}1.json", b"{")
    archive.store.write(f"{media_keys.people('x1')}1.json", b"[]")
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
    archive.update(identification.confirm(archive.tools, A, "1", person))
    subtitles = archive.store.read(media_keys.transcript(A, ".vtt")).decode()
    assert "<i>" not in subtitles
    assert "&lt;i&gt;Ada" in subtitles
