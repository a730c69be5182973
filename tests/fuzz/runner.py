"""Draw cases of a target by their numbers, try each within its time limit, and keep the faults."""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.target import Target, TooLongError, limited

MAX_SHOWN = 20_000  # characters of an input in a report; `--number` makes it again in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An input at which something broke, and how to try it again."""

    target: str
    seed: int
    number: int
    text: str
    trace: str  # the traceback; its last line says what broke
    place: str  # file and line of the last frame that is no test's

    def __str__(self) -> str:
        again = f'python -m tests.fuzz --seed {self.seed} --target "{self.target}"'
        shown = ascii(self.text[:MAX_SHOWN])
        return f"{again} --number {self.number}\n{self.trace}input: {shown}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of some cases."""

    faults: tuple[Fault, ...]
    accepted: int
    refused: int


def try_cases(target: Target, seed: int, numbers: Iterable[int], folder: Path) -> Outcome:
    """Try the cases of these numbers. A case depends on target, seed and number alone."""
    faults: list[Fault] = []
    counts: Counter[bool] = Counter()
    for number in numbers:
        rng = Random(f"{seed} {target.name} {number}")
        case = target.make(rng, folder)
        try:
            with warnings.catch_warnings(), limited():
                warnings.simplefilter("error")
                counts[case.attempt()] += 1
        except (Exception, TooLongError) as error:  # noqa: BLE001 - each is a fault
            faults.append(
                Fault(
                    target=target.name,
                    seed=seed,
                    number=number,
                    text=case.text,
                    trace="".join(traceback.format_exception(error)),
                    place=_place(error),
                )
            )
    return Outcome(faults=tuple(faults), accepted=counts[True], refused=counts[False])


def _place(error: BaseException) -> str:
    """Where it broke: kind of error, file and line, of the last frame of our own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    last = own[-1]
    return f"{type(error).__name__} at {last.filename}:{last.lineno} {last.line}"
