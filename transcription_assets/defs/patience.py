"""How long a pod may take."""

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: until a pod must run, and that it may then work: `floor_s`, plus `per_second` x its sound."""

    start_s: float
    floor_s: float
    per_second: float

    def deadline(self, sounds_s: float | None) -> int:
        """From when its node knows of it; pulling the image is a part of starting, waiting for a node is not.

        None where the length is not known yet: then the step itself limits the time for each recording.
        """
        work_s = DAY_S if sounds_s is None else self.floor_s + self.per_second * sounds_s
        return int(self.start_s + work_s)

    @property
    def look_every_s(self) -> int:
        """Often enough to notice the end of its patience soon after."""
        return max(1, min(10, int(self.start_s / 4)))
