"""Quantities of tables outside HBM: what stands in host memory and on disk, and what is read of it.

They are zero, and left out of tables for people, where a workload puts no table there.
"""

from costmodel.costs.quantities.quantity import Quantity

_FAR = "costmodel.costs.placement:far_tables"
_PROTOCOL = "what the link's protocol adds"
_LINK = f"rows that are fetched again within a step, and {_PROTOCOL}"
_FETCHES = "costmodel.costs.fetches:fetches"
_CONTENTION = "that a fetch and the work beside it slow each other; its formula says how far"

HOST_BYTES = (
    Quantity(
        name="host_bytes.read",
        label="rows read from host memory",
        unit="bytes",
        counts="expected distinct rows of tables in host memory, over the link to the GPU; one that"
        " several layers read counts once",
        leaves_out=_LINK,
        formula=_FAR,
        also=(
            "operators.host_read_bytes",
            "regions.host_read_bytes",
            "rows.host_read_bytes",
        ),
    ),
    Quantity(
        name="host_bytes.row_reads",
        label="rows fetched from host memory",
        unit="bytes",
        counts="rows of tables in host memory, as often as tokens and layers read them: the GPU"
        " keeps none of them in L2",
        leaves_out=_PROTOCOL,
        formula=_FAR,
    ),
    Quantity(
        name="host_bytes.rows_in_sectors",
        label="rows fetched from host memory in sectors",
        unit="bytes",
        counts="the rows fetched from host memory in whole sectors of 32 bytes, as the GPU asks for"
        " them",
        leaves_out=_PROTOCOL,
        formula=_FAR,
    ),
    Quantity(
        name="host_bytes.table_bytes",
        label="tables in host memory",
        unit="capacity",
        counts="tables that stand in pinned memory of the host",
        formula="costmodel.costs.placement:stored_in",
        also=("rows.host_table_bytes",),
    ),
)

DISK_BYTES = (
    Quantity(
        name="disk_bytes.read",
        label="rows read from disk",
        unit="bytes",
        counts="expected distinct rows of tables on disk, which then cross the link as well; one"
        " that several layers read counts once",
        leaves_out="whole blocks of the disk, of which a row is a part",
        formula=_FAR,
        also=(
            "operators.disk_read_bytes",
            "regions.disk_read_bytes",
            "rows.disk_read_bytes",
        ),
    ),
    Quantity(
        name="disk_bytes.row_reads",
        label="rows of each layer read from disk",
        unit="bytes",
        counts="expected distinct rows of each layer, whatever other layers of a table read",
        leaves_out="whole blocks of the disk, of which a row is a part",
        formula=_FAR,
    ),
    Quantity(
        name="disk_bytes.table_bytes",
        label="tables on disk",
        unit="capacity",
        counts="tables that stand on a disk",
        formula="costmodel.costs.placement:stored_in",
        also=("rows.disk_table_bytes",),
    ),
)

HOT_ROWS = Quantity(
    name="memory.hot_rows_bytes",
    label="cache of hot rows",
    unit="capacity",
    counts="HBM that keeps the most popular rows of tables outside it; at most all of them",
    formula="costmodel.costs.footprint:hot_rows_bytes",
)

FETCH_TIMES = (
    Quantity(
        name="time.predicted_fetch_s",
        label="predicted time of fetches",
        unit="s",
        counts="gathers of rows over the link, one after the other, by measured times of the GPU",
        leaves_out=_CONTENTION,
        formula=_FETCHES,
        calibrated=True,
    ),
    Quantity(
        name="time.predicted_exposed_s",
        label="predicted time of fetches that nothing hides",
        unit="s",
        counts="of rows chosen by scores the whole fetch; of rows known ahead what the work before"
        " their layers does not hide; part of the predicted time",
        leaves_out=_CONTENTION,
        formula=_FETCHES,
        also=("rows.predicted_exposed_s",),
        calibrated=True,
    ),
)

FAR_NAMES = frozenset(
    quantity.name for quantity in (*HOST_BYTES, *DISK_BYTES, HOT_ROWS, *FETCH_TIMES)
)
"""What a summary tells only of a step with tables outside HBM."""
