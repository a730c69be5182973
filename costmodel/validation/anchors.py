"""Anchors of recordings: how far kernels that are the same everywhere drifted meanwhile.

An anchor is timed before and after each case of a recording (`costmodel.recordings.machine`). How
far its times lie apart within a recording is what the machine alone adds to any comparison of that
recording's times; between two recordings, how far their medians do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from costmodel.recordings.recording import Recording

DRIFT = 0.03  # beyond this share from the median, a reading is told of


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorReadings:
    """All readings of one anchor in some recordings, in seconds.

    Attributes:
        name: of the kernel.
        readings: how many there are, two for each case.
        far: how many lie more than `DRIFT` from the median.
    """

    name: str
    readings: int
    median_s: float
    least_s: float
    most_s: float
    far: int

    @property
    def words(self) -> str:
        """One line: the median, the range as shares of it, and how many readings are far off."""
        low, high = (100 * (s / self.median_s - 1) for s in (self.least_s, self.most_s))
        far = f"; {self.far:,} beyond {100 * DRIFT:.0f} %" if self.far else ""
        return (
            f"{self.name}: {1e6 * self.median_s:.1f} us, {low:+.1f} % to {high:+.1f} %"
            f" in {self.readings:,} readings{far}"
        )


def anchor_readings(recordings: Iterable[Recording]) -> tuple[AnchorReadings, ...]:
    """The readings of each anchor over all recordings, in the order in which they are met."""
    seconds: dict[str, list[float]] = {}
    for recording in recordings:
        for case in recording.cases:
            for run in case.runs.values():
                for anchor in run.conditions.anchors:
                    of_anchor = seconds.setdefault(anchor.name, [])
                    of_anchor += (anchor.before_s, anchor.after_s)
    return tuple(_summed(name, of_anchor) for name, of_anchor in seconds.items())


def _summed(name: str, seconds: Sequence[float]) -> AnchorReadings:
    middle = median(seconds)
    return AnchorReadings(
        name=name,
        readings=len(seconds),
        median_s=middle,
        least_s=min(seconds),
        most_s=max(seconds),
        far=sum(abs(reading / middle - 1) > DRIFT for reading in seconds),
    )
