"""Which occurrences are news, as properties of any history of one recording."""

from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.events.occurrences import Occurrence
from transcription_assets.events.states import SubjectState, change, following

occurrences = st.builds(
    lambda well, version, transient: Occurrence(
        "recording", "audio/a.wav", well, "2026-01-01", version, "", "", "", transient
    ),
    st.booleans(),
    st.sampled_from("12"),
    st.booleans(),
)


def told(history: list[Occurrence]) -> list[Occurrence]:
    """Return the occurrences that are news."""
    entry: SubjectState | None = SubjectState((), failed=False)
    found = []
    for number, each in enumerate(history):
        is_event = change(entry, each) in {"failed", "succeeded", "recovered"}
        entry = following(entry, each, (str(number),), is_event=is_event)
        found += [each] * is_event
        assert entry.events == len(found)
        assert entry.failed != each.succeeded
    return found


@given(st.lists(occurrences, max_size=30))
def test_repeating_an_occurrence_is_no_news(history: list[Occurrence]) -> None:
    assert told([each for each in history for _ in range(3)]) == told(history)


@given(st.lists(occurrences, min_size=1, max_size=30))
def test_the_last_news_is_the_current_state(history: list[Occurrence]) -> None:
    (*_, last) = told([Occurrence("recording", "audio/a.wav", succeeded=True, at="", version="0"), *history])
    assert (last.succeeded, last.version) == (history[-1].succeeded, history[-1].version)


@given(st.lists(occurrences, max_size=30))
def test_a_failure_of_a_version_is_told_at_most_twice(history: list[Occurrence]) -> None:
    failures = [each for each in history if not each.succeeded and each.version == "1"]
    found = told(failures)
    assert len(found) <= 2
    assert [each.transient for each in found] in ([], [True], [False], [True, False])
