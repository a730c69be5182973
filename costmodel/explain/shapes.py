"""The shape of a part in words: by which measured curve of a calibration it is priced."""

from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK
from costmodel.units import count


def shape_words(shape: Shape | None) -> str:
    """`product of [64, 2,048] with a weight [512, 2,048]`; of no shape, that bytes price it."""
    match shape:
        case None:
            return "the bytes it moves"
        case Gemm(m=m, n=n, k=k, calls=calls):
            return f"product of [{count(m)}, {k:,}] with a weight [{n:,}, {k:,}]{_times(calls)}"
        case Grouped(groups=groups, rows=rows, n=n, k=k):
            return f"product of {count(rows)} rows with {count(groups)} weights [{n:,}, {k:,}]"
        case Rows(reads=reads, row_bytes=row_bytes):
            return f"{count(reads)} reads of rows of {row_bytes:,g} bytes"
        case Attend():
            return (
                f"attention of {count(shape.batch)} x {count(shape.queries)} queries with"
                f" {count(shape.keys)} keys, {shape.heads:,} heads on {shape.kv_heads:,} of size"
                f" {shape.head_dim:g}"
            )
        case TopK(rows=rows, width=width, chosen=chosen, calls=calls):
            return f"top {chosen:,} of {width:,} in {count(rows)} rows{_times(calls)}"


def _times(calls: int) -> str:
    return "" if calls == 1 else f", {calls:,} times"
