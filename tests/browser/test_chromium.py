"""Without Chromium no browser test is left out silently: skipped loudly, and in CI a failure."""

import subprocess

import pytest

from tests.browser import conftest


@pytest.fixture(autouse=True)
def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "found_chromium", lambda: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)  # its installation fails


def test_outside_ci_it_is_skipped_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"NO BROWSER TEST RUNS: .*apt-get install"):
        conftest.chromium_path()


def test_in_ci_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="NO BROWSER TEST RUNS"):
        conftest.chromium_path()
