"""Pages of `docs` and the README hold what commands print: running them all takes a while."""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.slow)
