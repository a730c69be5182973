"""A profile in a process of its own, by slow fake workers, to be killed: OUT LOG [TRICK...]."""

import sys
from pathlib import Path

from profiler.session.profile import run_profile
from profiler.session.progress import ProfileProgress
from tests.profiler.session import fake_worker
from tests.profiler.session.profiles import ALL, request, target

BATCHES = range(1, 9)

if __name__ == "__main__":
    out, log, *tricks = sys.argv[1:]
    run_profile(
        request(Path(out), target(batches=BATCHES, runs=ALL), resume=True),
        ProfileProgress(),
        worker_command=(*fake_worker.COMMAND, "slow@every", f"{log}@log", *tricks),
    )
