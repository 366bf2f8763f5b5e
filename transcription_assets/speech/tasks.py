"""State of the windows and chunks while they are decoded together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment
from transcription_assets.speech import alignment, assembly
from transcription_assets.speech.engine import WindowTask
from transcription_assets.speech.windows import DecodedWindow


@dataclass(slots=True)
class WindowState:
    """A window that is decoded; `votes` (voiced seconds by language) are shared by the windows of its recording."""

    task: WindowTask
    votes: dict[str, float] = field(default_factory=dict)

    def finished(
        self, segments: Iterable[Segment], votes: Mapping[str, float], more: Iterable[Region] = ()
    ) -> DecodedWindow:
        """Return the result of the window. All times count from its start; `more` are regions that VAD left out."""
        plan = self.task.plan
        voiced = sorted([*plan.voiced, *more], key=lambda region: region.start)
        timed = alignment.aligned(segments, self.task.samples, voiced)
        return assembly.window(plan.start, plan.end, timed, voiced, votes)


def states(windows: Sequence[WindowTask]) -> list[WindowState]:
    """Return new states of the windows, in the same order; those of one recording share their votes."""
    votes: dict[str, dict[str, float]] = {}
    return [WindowState(task, votes.setdefault(task.recording, {})) for task in windows]
