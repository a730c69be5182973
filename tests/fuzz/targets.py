"""All targets of the fuzz test, and how many cases each of them has."""

from tests.fuzz.addresses import ADDRESSES
from tests.fuzz.command_lines import COMMAND_LINES
from tests.fuzz.files import FILES
from tests.fuzz.links import LINKS
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (*FILES, COMMAND_LINES, LINKS, ADDRESSES)


def numbers_of(target: Target, count: int) -> range:
    """The numbers of a target's cases where all targets together have about `count`."""
    return range(-(-count * target.share // sum(each.share for each in TARGETS)))
