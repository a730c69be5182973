"""Before any test: an interrupt interrupts, one thread computes, and no clock judges.

A shell starts what it puts into the background with SIGINT ignored, and children inherit that; the
tests that interrupt a command would then wait for it in vain.

Without a GPU the Triton kernels run on Triton's interpreter, which has to be said before triton is
imported, by whatever test comes first. `tests/interpreter.py` makes that interpreter faster.

NumPy and torch take one thread: each worker of pytest has a core, and tests compute with small
arrays, over which threads lose more by waiting for one another than they gain.

Coverage is of `costmodel`, and its tests are in the folders that mirror it. Elsewhere it would
trace each call of torch, Triton or a browser, and double the time.

On a busy machine any example may pass a deadline, so hypothesis has none. Every run draws the same
examples, here and in CI, so that a failure is of the change; `--hypothesis-profile random` draws
others, as `make fuzz` does.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

TESTS = Path(__file__).parent
NOT_COVERED = ("browser", "profiler", "reference_model")

signal.signal(signal.SIGINT, signal.default_int_handler)
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ["TRITON_INTERPRET"] = "1"

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # read where numpy and torch are imported: not yet

settings.register_profile(
    "patient",
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("random", settings.get_profile("patient"), derandomize=False)
settings.register_profile(  # for tests/mutation: none shrunk
    "mutants", settings.get_profile("patient"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("patient")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave coverage out where it watches nothing of ours."""
    if item.path.relative_to(TESTS).parts[0] in NOT_COVERED:
        item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish() -> None:
    """Speed up Triton's interpreter, if a test that was collected has imported it."""
    if "triton.runtime.interpreter" in sys.modules:
        from tests.interpreter import speed_up

        speed_up()


@pytest.fixture
def no_leaves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No leaves are shipped: single kernels give times, and nothing is transferred."""
    from costmodel.costs import calibrations, transfer
    from costmodel.costs.kernel_times import LEAVES

    offered = [name for name in calibrations.offered_names() if not name.endswith(LEAVES)]
    monkeypatch.setattr(calibrations, "offered_names", lambda: tuple(offered))

    for module in (calibrations, transfer):
        monkeypatch.setattr(module, "shipped_leaves", lambda: None)
    kept = [transfer._transferred]
    if selection := sys.modules.get("dashboard.app.selection"):  # it keeps what pages have chosen
        kept.append(selection.selected)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()
