"""Storage formats: the bytes that a row takes, with the scales and zero points of its groups."""

from dataclasses import dataclass, field, replace

from costmodel.errors import InputError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """A storage format: bits of an element, and what is kept beside the elements.

    A row is an output channel of a matrix, a row of a table, or the vector of one token and head in
    the KV cache. `group` is the number of consecutive elements of a row that share a scale; 0: all
    elements of the row. Groups never span rows, so a row of 192 with groups of 128 has two. With
    `block_rows`, a scale is of a block of `block_rows` rows of a matrix by `group` elements; blocks
    at a matrix's edge are smaller and have a scale of their own.
    Source: bf16, fp16 and fp32 by IEEE 754 and its short form; fp8 (E4M3) and int8 with one scale
    a row are the dynamic per-channel and per-token schemes of today's serving engines; int4 is
    asymmetric in groups of 128, as AWQ (arXiv 2306.00978) and GPTQ (arXiv 2210.17323) report;
    blocks of fp8 with fp32 scales: DeepSeek-V3, arXiv 2412.19437, section 3.3.2; mxfp4: OCP
    Microscaling Formats 1.0, 32 elements and a scale of 8 bits; nvfp4: 16 elements and an fp8
    scale, with two fp32 scalars a matrix (of weights and of inputs), as ModelOpt writes them.
    """

    name: str  # how the format is called: "fp8", "int4", "mxfp4"
    bits: int  # of one element
    group: int = 0
    scale_bits: int = 0  # of a group or block
    zero_bits: int = 0  # of a group: a zero point, or MLX's bias
    block_rows: int = 0
    tensor_bits: int = 0  # kept once a matrix: the scale of per-tensor fp8, NVFP4's two scalars
    column_bits: int = 0  # kept once for each input of a matrix: GPTQ's g_idx
    rotary_bits: int = 0  # of MLA's cache alone: of an element of the rotary key; 0: as all else
    by_rows: bool = field(init=False, repr=False, compare=False)  # a matrix is its rows, no more

    def __post_init__(self) -> None:
        """Whether rows suffice is asked for every weight of a step."""
        once = self.block_rows or self.tensor_bits or self.column_bits
        object.__setattr__(self, "by_rows", not once)

    def row_bytes(self, cols: int) -> int:
        """Bytes of a row of `cols` elements: ceil((cols bits + groups (scale + zero bits)) / 8).

        What a whole matrix keeps once is left out. A row by itself has a scale for each of its
        groups, those of a format with blocks too.
        """
        bits = cols * self.bits
        if self.scale_bits:
            groups = -(-cols // self.group) if self.group else 1
            bits += groups * (self.scale_bits + self.zero_bits)
        return -(-bits // 8)

    def matrix_bytes(self, rows: int, cols: int) -> int:
        """Bytes of a matrix of `rows` outputs and `cols` inputs, with all that it keeps once.

        Of blocks there are ceil(rows / block_rows) ceil(cols / group).
        """
        once_bits = self.tensor_bits + cols * self.column_bits
        if not self.block_rows:
            return rows * self.row_bytes(cols) + -(-once_bits // 8)
        blocks = -(-rows // self.block_rows) * -(-cols // self.group)
        bits = rows * cols * self.bits + blocks * (self.scale_bits + self.zero_bits)
        return -(-(bits + once_bits) // 8)

    @property
    def is_quantised(self) -> bool:
        """Whether elements need a scale."""
        return bool(self.scale_bits or self.tensor_bits)

    @property
    def label(self) -> str:
        """The format as a user writes it, with its groups: `int4:128`, `fp8:128x128`."""
        if self.block_rows:
            return f"{self.name}:{self.block_rows}x{self.group}"
        if self.tensor_bits and not self.scale_bits:
            return f"{self.name}:{TENSOR}"
        if not self.takes_group and (self.name in DTYPES or self.name in KV_LAYOUTS):
            return self.name
        return f"{self.name}:{self.group}" if self.group else self.name

    @property
    def takes_group(self) -> bool:
        """Whether a user may choose the group: not where the format's standard fixes it."""
        return self.name in ("fp8", "int8", "int4")

    @property
    def described(self) -> str:
        """The format in words, with its scales and zero points."""
        words = f"{self.bits} bits"
        if self.scale_bits:
            group = f"{self.group} elements" if self.group else "row"
            if self.block_rows:
                group = f"block of {self.block_rows} x {self.group}"
            zero = f" and a {self.zero_bits}-bit zero point" if self.zero_bits else ""
            article = "an" if self.scale_bits == 8 else "a"  # noqa: PLR2004 - an eight
            words += f" with {article} {self.scale_bits}-bit scale{zero} per {group}"
        if self.tensor_bits:
            words += f"{' and' if self.scale_bits else ' with'} {self.tensor_bits} bits per tensor"
        if self.column_bits:
            words += f" and {self.column_bits} bits per input"
        if self.rotary_bits:
            words += f"; rotary keys {self.rotary_bits} bits"
        return words


DTYPES = {
    dtype.name: dtype
    for dtype in (
        Dtype(name="fp32", bits=32),
        Dtype(name="bf16", bits=16),
        Dtype(name="fp16", bits=16),
        Dtype(name="fp8", bits=8, scale_bits=32),
        Dtype(name="int8", bits=8, scale_bits=16),
        Dtype(name="int4", bits=4, group=128, scale_bits=16, zero_bits=4),
        Dtype(name="mxfp4", bits=4, group=32, scale_bits=8),
        Dtype(name="nvfp4", bits=4, group=16, scale_bits=8, tensor_bits=64),
    )
}
BF16 = DTYPES["bf16"]
TENSOR = "tensor"  # one scale for a whole matrix, or for a layer's cache
KV_LAYOUTS = {
    layout.name: layout
    for layout in (Dtype(name="fp8_ds_mla", bits=8, group=128, scale_bits=32, rotary_bits=16),)
}
"""Formats of a KV cache alone, under the names that engines give them.

`fp8_ds_mla` is the layout of latents (MLA) in vLLM and FlashMLA: a latent of 512 in fp8 with four
fp32 scales, and a rotary key of 64 in bf16, 656 bytes a token and layer. Source: vLLM's
documentation of its backend `flashmla_sparse`.
"""
MIN_GROUP, MAX_GROUP = 8, 65536


def parse_dtype(text: str, *, field: str) -> Dtype:
    """The format of a name such as `bf16`.

    fp8, int8 and int4 may add a group, as in `int4:32`; fp8 and int8 also a block of a matrix
    (`fp8:128x128`) or `tensor`, one scale of 32 bits for all.

    Raises:
        InputError: There is no such format, or the group leaves its bounds; it names `field`.
    """
    name, colon, scheme = text.partition(":")
    dtype = DTYPES.get(name)
    if dtype is not None and not colon:
        return dtype
    rows, times, group = scheme.rpartition("x")
    if dtype is None or not dtype.takes_group:
        raise _unknown(text, field)
    if dtype.bits == 8:  # noqa: PLR2004 - fp8 and int8
        if scheme == TENSOR:
            return replace(dtype, scale_bits=0, tensor_bits=32)
        if times:
            return replace(
                dtype,
                group=_group(text, group, field),
                block_rows=_group(text, rows, field),
                scale_bits=32,
            )
    return replace(dtype, group=_group(text, scheme, field))


def parse_kv_dtype(text: str, *, field: str) -> Dtype:
    """The format of a KV cache: one of `parse_dtype`, or a layout of the cache alone.

    `fp8:tensor` has no scale for each token and head, `fp8` has one. Blocks of rows are refused,
    since only matrices have them.

    Raises:
        InputError: There is no such format of a cache; it names `field`.
    """
    if text in KV_LAYOUTS:
        return KV_LAYOUTS[text]
    try:
        dtype = parse_dtype(text, field=field)
    except InputError as error:
        raise InputError(f"{error}; a KV cache of latents may be {', '.join(KV_LAYOUTS)}") from None
    if dtype.block_rows:
        raise InputError(f"{field}={shown(text)}: blocks of rows are of weights, not of a cache")
    return dtype


def _unknown(text: str, field: str) -> InputError:
    return InputError(
        f"{field}={shown(text)}: is one of {', '.join(DTYPES)}; fp8, int8 and int4 may add :GROUP"
        f" (such as int4:32), fp8 and int8 also :ROWSxGROUP (fp8:128x128) or :{TENSOR}"
    )


def _group(text: str, digits: str, field: str) -> int:
    """The number of elements that share a scale."""
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= len(str(MAX_GROUP))):
        raise _unknown(text, field)
    if not MIN_GROUP <= int(digits) <= MAX_GROUP:
        raise InputError(
            f"{field}={shown(text)}: a group holds {MIN_GROUP} to {MAX_GROUP} elements"
        )
    return int(digits)


def default_kv_dtype(weights: Dtype) -> Dtype:
    """The default format of the KV cache: that of the weights, or bf16 if those are quantised."""
    return BF16 if weights.is_quantised else weights
