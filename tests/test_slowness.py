"""The guard against runaway work: it gives a slow machine its time, and no more."""

import pytest

from tests import slowness

QUIET_S = 2.0


@pytest.mark.parametrize(
    ("slower", "took_s", "holds"),
    [
        (1.0, 8.0, True),
        (1.0, 8.1, False),
        (2.5, 20.0, True),  # by hand: 4 x 2 s x 2.5
        (2.5, 20.1, False),
        (0.5, 8.0, True),  # a faster machine is given no less
        (0.5, 8.1, False),
    ],
)
def test_what_is_allowed_grows_with_the_slowness_of_the_machine(
    slower: float, took_s: float, *, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slowness, "fixed_work", lambda: slower * slowness.NOMINAL_S)
    if holds:
        slowness.check(took_s, QUIET_S)
    else:
        with pytest.raises(AssertionError, match="a quiet machine needs 2 s"):
            slowness.check(took_s, QUIET_S)


def test_a_block_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 19.0])
    monkeypatch.setattr(slowness, "process_time", lambda: next(moments))
    monkeypatch.setattr(slowness, "slowness", lambda: 1.0)
    with pytest.raises(AssertionError, match=r"^9\.0 s; "), slowness.guarded(QUIET_S):
        pass


def test_this_machine_is_measured() -> None:
    assert slowness.slowness() >= 1
