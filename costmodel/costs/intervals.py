"""How often an interval about a prediction is meant to hold, for times, bytes and energy alike."""

from typing import Final

COVERAGE: Final = 0.9
NORMAL: Final = 1.645  # standard deviations either way that hold so much of a normal curve
