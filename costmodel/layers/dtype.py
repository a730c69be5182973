"""Storage formats: the bytes that a row takes, with the scales and zero points of its groups."""

from dataclasses import dataclass

from costmodel.errors import InputError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """A storage format: `bits` per element, and a scale (and zero point) for each group of a row.

    A row is an output channel of a matrix, a row of a table, or the vector of one token and head in
    the KV cache. `group` is the number of consecutive elements of a row that share a scale; 0: all
    elements of the row. Groups never span rows, so a row of 192 with groups of 128 has two.
    Source: bf16, fp16 and fp32 by IEEE 754 and its short form; fp8 (E4M3) and int8 with one scale
    a row are the dynamic per-channel and per-token schemes of today's serving engines; int4 is
    asymmetric in groups of 128, as AWQ (arXiv 2306.00978) and GPTQ (arXiv 2210.17323) report.
    """

    name: str
    bits: int
    group: int = 0
    scale_bits: int = 0
    zero_bits: int = 0  # of a group: a zero point, or MLX's bias
    block_rows: int = 0  # > 0: a scale is of a block of block_rows x group elements of a matrix
    tensor_bits: int = 0  # kept once a matrix: the scale of per-tensor fp8, NVFP4's two scalars
    column_bits: int = 0  # kept once for each input of a matrix: GPTQ's g_idx

    def row_bytes(self, cols: int) -> int:
        """Bytes of a row of `cols` elements: ceil((cols bits + groups (scale + zero bits)) / 8)."""
        bits = cols * self.bits
        if self.scale_bits:
            groups = -(-cols // self.group) if self.group else 1
            bits += groups * (self.scale_bits + self.zero_bits)
        return -(-bits // 8)

    @property
    def label(self) -> str:
        """The format as a user writes it, with its group if it has one: `int4:128`."""
        return f"{self.name}:{self.group}" if self.group else self.name

    @property
    def described(self) -> str:
        """The format in words, with its scales and zero points."""
        if not self.scale_bits:
            return f"{self.bits} bits"
        group = f"{self.group} elements" if self.group else "row"
        zero = f" and a {self.zero_bits}-bit zero point" if self.zero_bits else ""
        return f"{self.bits} bits with a {self.scale_bits}-bit scale{zero} per {group}"


DTYPES = {
    dtype.name: dtype
    for dtype in (
        Dtype(name="fp32", bits=32),
        Dtype(name="bf16", bits=16),
        Dtype(name="fp16", bits=16),
        Dtype(name="fp8", bits=8, scale_bits=32),
        Dtype(name="int8", bits=8, scale_bits=16),
        Dtype(name="int4", bits=4, group=128, scale_bits=16, zero_bits=4),
    )
}
MIN_GROUP, MAX_GROUP = 8, 65536


def parse_dtype(text: str, *, field: str) -> Dtype:
    """The format of a name such as `bf16`; fp8, int8 and int4 may add a group, as in `int4:32`.

    Raises:
        InputError: There is no such format, or the group leaves its bounds; it names `field`.
    """
    name, colon, group = text.partition(":")
    rule = f"is one of {', '.join(DTYPES)}; fp8, int8 and int4 may add :GROUP (such as int4:32)"
    dtype = DTYPES.get(name)
    if dtype is None:
        raise InputError(f"{field}={shown(text)}: {rule}")
    if not colon:
        return dtype
    if not dtype.scale_bits or not (
        group.isascii() and group.isdecimal() and len(group) <= len(str(MAX_GROUP))
    ):
        raise InputError(f"{field}={shown(text)}: {rule}")
    if not MIN_GROUP <= int(group) <= MAX_GROUP:
        raise InputError(
            f"{field}={shown(text)}: a group holds {MIN_GROUP} to {MAX_GROUP} elements"
        )
    return Dtype(
        name=name,
        bits=dtype.bits,
        group=int(group),
        scale_bits=dtype.scale_bits,
        zero_bits=dtype.zero_bits,
    )


def default_kv_dtype(weights: Dtype) -> Dtype:
    """The default format of the KV cache: that of the weights, or bf16 if those are quantised."""
    return DTYPES["bf16"] if weights.scale_bits else weights
