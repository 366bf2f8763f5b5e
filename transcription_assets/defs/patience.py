"""How long a pod may take."""

from dataclasses import dataclass

DAY_S = 86_400.0
WORK_LIMIT = "STEP_WORK_LIMIT_S"
"""The variable that tells a pod how long it may work; no setting, for it follows from the batch."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: until a pod must run, and that it may then work: `floor_s`, plus `per_second` x its sound."""

    start_s: float
    floor_s: float
    per_second: float

    def work_s(self, sounds_s: float | None) -> float:
        """How long a pod may work on recordings that last `sounds_s` together.

        None where that is not known yet: then the step itself limits the time for each recording.
        """
        return DAY_S if sounds_s is None else self.floor_s + self.per_second * sounds_s

    def deadline(self, work_s: float) -> int:
        """From when its node knows of it; pulling the image is a part of starting, waiting for a node is not."""
        return int(self.start_s + work_s)

    @property
    def look_every_s(self) -> int:
        """Often enough to notice the end of its patience soon after."""
        return max(1, min(10, int(self.start_s / 4)))
