"""Where the tables of a model stand: in HBM, in host memory, or on disk.

A table is read by rows, a few of them in each step. A table that the GPU's memory has no room for
may stand in pinned host memory, whose rows a kernel reads over the link between GPU and host, or on
a disk. Rows of memory tables stand in the group `memory_values`; an input embedding is a table too,
unless the LM head multiplies all of it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from costmodel.errors import InputError, shown

Place: TypeAlias = Literal["hbm", "host", "disk"]
PLACES: tuple[Place, ...] = get_args(Place)
TABLES = "tables"  # stands for all memory tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where each table stands, and how much of HBM keeps the most popular rows of the others.

    Attributes:
        tables: Of all memory tables that `leaves` does not name.
        leaves: Of single tables, by the leaf that reads them: `memory.values`, or `embed`.
        hot_rows_bytes: Of HBM, a cache of rows of the tables that stand elsewhere. It holds their
            most popular rows, of each table the same share.
        host_memory_bytes: Of the host; None: as the GPU's file says, else no limit is known.
    """

    tables: Place = "hbm"
    leaves: tuple[tuple[str, Place], ...] = ()
    hot_rows_bytes: int = 0
    host_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Leaves stand in the order of their names; a cache needs a table that is elsewhere."""
        object.__setattr__(self, "leaves", tuple(sorted(self.leaves)))
        if self.hot_rows_bytes and not self.moves:
            raise InputError(
                f"hot_rows={self.hot_rows_bytes:,}: is a cache of tables that stand in host memory"
                f" or on disk, and placement={shown(self.label)} puts none there"
            )

    @property
    def moves(self) -> bool:
        """Whether some table is to stand outside HBM."""
        return any(self.puts_on(place) for place in ("host", "disk"))

    def puts_on(self, place: Place) -> bool:
        """Whether some table is to stand there."""
        return self.tables == place or any(stated == place for _, stated in self.leaves)

    def of(self, leaf: str) -> Place:
        """Where the memory table of a leaf stands."""
        return dict(self.leaves).get(leaf, self.tables)

    @property
    def label(self) -> str:
        """As a user writes it: `tables=host`, `tables=hbm,memory.values=host`."""
        return ",".join(f"{name}={place}" for name, place in ((TABLES, self.tables), *self.leaves))


IN_HBM = Placement()


def parse_placement(
    text: str, *, hot_rows_bytes: int = 0, host_memory_bytes: int | None = None
) -> Placement:
    """`tables=host`, or `LEAF=PLACE,...` for single tables; tables not named stay in HBM.

    Raises:
        InputError: An item is no NAME=PLACE, a place does not exist, or a name stands twice.
    """
    stated: dict[str, Place] = {}
    for item in text.split(","):
        name, equals, typed = item.partition("=")
        place = next((known for known in PLACES if known == typed), None)
        if not equals or not name or place is None:
            raise InputError(
                f"placement={shown(text)}: {shown(item)} is no TABLE=PLACE; TABLE is {TABLES} (all"
                f" memory tables) or a leaf such as memory.values, PLACE is {', '.join(PLACES)}"
            )
        if name in stated:
            raise InputError(f"placement={shown(text)}: {shown(name)} is listed twice")
        stated[name] = place
    tables = stated.pop(TABLES, "hbm")
    return Placement(
        tables=tables,
        leaves=tuple(stated.items()),
        hot_rows_bytes=hot_rows_bytes,
        host_memory_bytes=host_memory_bytes,
    )
