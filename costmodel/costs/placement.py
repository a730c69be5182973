"""Tables outside HBM: what of a step's rows crosses the link to the host, or comes from a disk.

A kernel reads rows of a table in pinned host memory over the link, straight onto the chip: they are
no traffic of HBM. L2 keeps none of them: a row that several tokens or layers read crosses the link
each time. Rows of a table on disk are read into host memory first, each once, then go the same way.
Rows that are fetched ahead of the layer that needs them wait in a buffer small enough for L2, as
activations do, and count as none of the compulsory bytes either. Source: on an H200, counters of a
gather of 24,576 rows saw the rows' sectors on the link, and of HBM the list of indices alone; and
in steps of UltraMemV2-1B/7B they saw tokens x layers x rows of a token within 0.01 %, at 256 and
1,024 tokens too, where 6 and 20 % of the reads were of rows that the step had read before.

A cache in HBM (`hot_rows_bytes`) holds the same share of each table that stands elsewhere: its most
popular rows. What it holds is read from HBM.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from costmodel.costs.hot_rows import ALL, Missed, missed_shares
from costmodel.costs.roofline import Ceilings
from costmodel.costs.storage import kind_operators
from costmodel.costs.table_rows import touched_rows, with_table_rows
from costmodel.costs.totals import Totals, stored_weights
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import MemoryKind
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.placement import Place, Placement
from costmodel.layers.touched import TableRows
from costmodel.routing.sectors import SECTOR_BYTES, row_sectors

NOTHING = 0  # most parts read no rows
EMBED = "embed"
FAR: tuple[Place, ...] = ("host", "disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class FarTables:
    """The tables in one place outside HBM, and what a step reads of them."""

    read: Number  # compulsory: each distinct row once, though several layers may read it
    row_reads: Number  # what layers fetch: of host memory every read, of a disk distinct rows
    sector_bytes: Number  # `row_reads` in whole sectors of 32 bytes
    table_bytes: int  # stored there


def table_operators(
    memory: MemoryKind, layers: Sequence[int], hidden_size: int, step: Step, cached_share: float
) -> Sequence[Operator]:
    """The operators of a memory kind, the rows of each table counted where it stands.

    Args:
        memory: The kind.
        layers: Its input blocks.
        hidden_size: D.
        step: `step.placement` says where tables stand.
        cached_share: Of the tables elsewhere, how much a cache in HBM holds: see `cached_share`.
    """
    operators: Sequence[Operator] = kind_operators(memory, layers, hidden_size, step)
    if step.placement.moves:
        whole = touched_rows(operators)
        missed = Missed()
        if cached_share and whole is not None:
            missed = missed_shares(whole, memory, layers, hidden_size, step, cached_share)
        early = memory.addressed_by == "tokens"
        reach = 0 if whole is None else whole.population
        operators = [_moved(operator, step, missed, reach, early=early) for operator in operators]
    return with_table_rows(operators, step)


def placed_embedding(operator: Operator, step: Step, cached_share: float) -> Operator:
    """The input embedding, its rows counted where it stands; ids are known before the step.

    Raises:
        InputError: It is tied, so that the LM head multiplies all of it.
    """
    stated = dict(step.placement.leaves).get(EMBED, "hbm")
    if stated == "hbm":
        return operator
    if any(weight.shared for weight in operator.weights):
        raise InputError(
            f"placement={shown(step.placement.label)}: {EMBED} is tied to the LM head, which"
            " multiplies all of it in every step; only a table that is read by rows alone can stand"
            " outside HBM"
        )
    missed: Number = 1 - cached_share if cached_share else ALL  # ids are drawn evenly
    (table,) = operator.weights
    both = Missed(distinct=missed, reads=missed)
    moved = _moved(operator, step, both, table.rows, early=True)
    fetched, width = moved.total("fetched_bytes"), table.row_bytes(step)
    rows = TableRows(
        read_bytes=0,
        sector_bytes=0,
        far_bytes=moved.total("link_bytes"),
        fetched_bytes=fetched,
        fetched_sector_bytes=fetched / width * row_sectors(width) * SECTOR_BYTES,
    )
    return replace(moved, rows=rows)


def cached_share(model: ModelConfig, step: Step) -> float:
    """The share of the tables outside HBM that a cache of `hot_rows_bytes` holds, from 0 to 1."""
    cache = step.placement.hot_rows_bytes
    if not cache:
        return 0.0
    far = 0
    for memory in model.memory:
        blocks = tuple(block for block, _ in memory.placement(model.num_hidden_layers))
        operators = kind_operators(memory, blocks, model.hidden_size, step)
        moved = [_moved(operator, step, Missed(), 0, early=False) for operator in operators]
        far += sum(stored_in(moved, step, place) for place in FAR)
    if dict(step.placement.leaves).get(EMBED, "hbm") != "hbm":
        table = Weight(
            name="weight",
            group="embedding",
            rows=model.vocab_size,
            cols=model.hidden_size,
            leaf=EMBED,
        )
        far += table.stored_bytes(step)
    return min(1.0, cache / far) if far else 0.0


def check_names(operators: Iterable[Operator], step: Step) -> None:
    """That each leaf of the placement reads a table.

    Raises:
        InputError: One does not.
    """
    if not step.placement.leaves:
        return
    tables = {
        operator.leaf: None
        for operator in operators
        if operator.leaf == EMBED or any(_is_table(weight) for weight in operator.weights)
    }
    for leaf, place in step.placement.leaves:
        if leaf not in tables:
            raise InputError(
                f"placement={shown(f'{leaf}={place}')}: {shown(leaf)} is no table that is read by"
                f" rows; those of this model are {', '.join(tables)}"
            )


def stored_in(operators: Iterable[Operator], step: Step, place: Place) -> int:
    """Bytes of all weights in a place, a shared one once."""
    return sum(
        weight.stored_bytes(step) * copies
        for weight, copies in stored_weights(operators)
        if weight.place == place
    )


def far_tables(operators: Sequence[Operator], sums: Totals, step: Step) -> dict[Place, FarTables]:
    """What stands in host memory and on disk, and what a step reads of it.

    Args:
        operators: Of the step.
        sums: Their totals.
        step: Of the formats in which rows are stored.
    """
    reads: dict[str, Number] = {"host": 0, "disk": 0}
    sectors: dict[str, Number] = {"host": 0, "disk": 0}
    for operator in operators:
        if operator.rows is not None and operator.rows.fetched_bytes is not NOTHING:
            place = next(weight.place for weight in operator.weights if weight.place != "hbm")
            count, rows = operator.count, operator.rows
            reads[place] = reads[place] + count * rows.fetched_bytes
            sectors[place] = sectors[place] + count * rows.fetched_sector_bytes
    totals: dict[Place, Number] = {"host": sums.host_bytes, "disk": sums.disk_bytes}
    return {
        place: FarTables(
            read=read,
            row_reads=reads[place],
            sector_bytes=sectors[place],
            table_bytes=stored_in(operators, step, place),
        )
        for place, read in totals.items()
    }


def with_far_ceilings(ceilings: Ceilings, hardware: Hardware, placement: Placement) -> Ceilings:
    """The ceilings with those of link and disk, where the placement puts tables behind them.

    Raises:
        InputError: The GPU's file lacks one that is needed.
    """
    if not placement.moves:
        return ceilings
    lacking = f"placement={shown(placement.label)}: needs"
    link, disk = hardware.link, hardware.disk
    if link is None:
        raise InputError(
            f"{lacking} the GPU's [link] to host memory, which the file of {shown(hardware.name)}"
            " lacks (its name and bytes_per_s)"
        )
    far = replace(ceilings, link_bytes_per_s=link.bytes_per_s)
    if not placement.puts_on("disk"):
        return far
    if disk is None:
        raise InputError(
            f"{lacking} a [disk], which the file of {shown(hardware.name)} lacks (its bytes_per_s"
            " and latency_s)"
        )
    return replace(far, disk_bytes_per_s=disk.bytes_per_s, disk_latency_s=disk.latency_s)


def check_host_memory(table_bytes: int, hardware: Hardware, placement: Placement) -> None:
    """That the host holds the tables that are to stand in its memory.

    Raises:
        InputError: It does not.
    """
    stated = placement.host_memory_bytes
    limit = hardware.host_memory_bytes if stated is None else stated
    if limit is not None and table_bytes > limit:
        raise InputError(
            f"placement={shown(placement.label)}: puts tables of {table_bytes:,} bytes in host"
            f" memory, which has host_memory={limit:,}"
        )


def _is_table(weight: Weight) -> bool:
    return weight.group == "memory_values"


def _moved(operator: Operator, step: Step, missed: Missed, reach: int, *, early: bool) -> Operator:
    """The operator with the rows of its tables counted where they stand.

    Formula: of w bytes of distinct rows that a layer reads, w x missed are read from elsewhere, the
    rest comes from the cache in HBM. Fetched are, from a disk, those; from host memory, of the
    tokens' reads the share that the cache misses. `reach` rows of a table are in a layer's reach.
    """
    embeds = operator.leaf == EMBED
    tables = [weight for weight in operator.weights if embeds or _is_table(weight)]
    place = step.placement.of(operator.leaf)
    if not tables or place == "hbm":
        return operator
    widths = [table.row_bytes(step) for table in tables]
    width = sum(widths) / len(widths)
    reads = step.tokens * sum(1 if embeds else table.active_rows or 0 for table in tables)
    fetch = _Fetch(
        place=place,
        field="weight_bytes" if embeds else "row_bytes",
        width=width,
        missed=missed.distinct,
        host_rows=reads if missed.reads is ALL else reads * missed.reads,
        reach_bytes=reach * max(widths),
        early=early,
    )
    return replace(
        operator,
        parts=tuple(
            part if getattr(part, fetch.field) is NOTHING else _fetched(part, fetch)
            for part in operator.parts
        ),
        weights=tuple(
            replace(weight, place=place) if weight in tables else weight
            for weight in operator.weights
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """What a part fetches."""

    place: Place
    field: str  # of the part: the bytes that are no longer read from HBM
    width: float  # bytes of a row
    missed: Number
    host_rows: Number
    reach_bytes: int
    early: bool


def _fetched(part: Part, fetch: _Fetch) -> Part:
    """A part whose rows come from a place outside HBM."""
    whole: Number = getattr(part, fetch.field)
    far = whole if fetch.missed is ALL else whole * fetch.missed
    near: Number = NOTHING if fetch.missed is ALL else whole - far
    host = fetch.place == "host"
    rows = fetch.host_rows if host else far / fetch.width
    return replace(
        part,
        early=fetch.early,
        fetched_rows=rows,
        fetched_bytes=rows * fetch.width,
        reach_bytes=fetch.reach_bytes,
        host_bytes=far if host else NOTHING,
        disk_bytes=NOTHING if host else far,
        **{fetch.field: near},  # type: ignore[arg-type]  # a number
    )
