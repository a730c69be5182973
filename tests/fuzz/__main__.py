"""The long fuzz test: `make fuzz`, or `python -m tests.fuzz --seed 0 --count 20000`.

Prints each fault once by its place in the code, with the command that tries its input again and the
input; exit status 1 if there is any.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.fuzz.runner import Fault, try_cases
from tests.fuzz.targets import TARGETS, numbers_of


def main() -> int:
    """Try the cases that the command line names; 1 if one of them is a fault."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--count", type=int, default=20_000, help="of all targets together")
    options.add_argument("--target", choices=[target.name for target in TARGETS])
    options.add_argument("--number", type=int, help="this case alone, of --target")
    given = options.parse_args()
    by_place: dict[str, list[Fault]] = defaultdict(list)
    for target in TARGETS:
        if given.target not in {None, target.name}:
            continue
        numbers = [given.number] if given.number is not None else numbers_of(target, given.count)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcome = try_cases(target, given.seed, numbers, Path(folder))
        print(
            f"{target.name:14} {outcome.accepted:6} accepted {outcome.refused:6} refused"
            f" {len(outcome.faults):4} faults {time.monotonic() - begun:6.1f} s",
            flush=True,
        )
        for fault in outcome.faults:
            by_place[fault.place].append(fault)
    for place, faults in by_place.items():
        print(f"\n{len(faults)} x {place}\n{min(faults, key=lambda fault: len(fault.text))}")
    return 1 if by_place else 0


if __name__ == "__main__":
    sys.exit(main())
