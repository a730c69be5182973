"""The passes of a step: what each kernel of a backend reads of earlier ones, and writes for later.

A pass is a sweep over its operands, from their beginning to their end, by one kernel or by several
alike. Compulsory bytes come from HBM whatever happened before; what earlier passes wrote may still
be in L2. `costmodel/costs/hbm_traffic.py` says how much of it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from costmodel.backends.step_kernels import Kernel, Region, StepKernels
from costmodel.backends.torch_passes import shares_of, wide_attention
from costmodel.layers.kernel_shape import Shape
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One sweep over operands, of an operator in one layer. All in bytes."""

    operator: int  # its place in the region
    required_read: Number = 0  # compulsory, each byte once
    required_written: Number = 0
    read: Number = 0  # of what earlier passes wrote
    written: Number = 0  # for later passes
    in_place: Number = 0  # of those: into what it read
    repeated: Number = 0  # of what is required: read a second time
    spilled: Number = 0  # written and read back within the pass
    shape: Shape | None = None  # of the work; None: each byte is read once

    @property
    def stored(self) -> Number:
        """All bytes that it writes for others to read."""
        return self.written + self.required_written

    @property
    def footprint(self) -> Number:
        """All bytes that it touches."""
        return self.required_read + self.read + self.stored - self.in_place


def passes_of(region: Region, kernels: StepKernels) -> Iterator[Pass]:
    """The passes of one layer of a region, in order."""
    if kernels.backend.saves_intermediates:
        several = bool(kernels.tokens > 1)
        yield from _of_kernels(region, tuple(kernels.kernels(region)), several=several)
        return
    for place, operator in enumerate(region.operators):
        for part in operator.parts:
            yield from _of_part(place, operator, part)


def _of_part(place: int, operator: Operator, part: Part) -> Iterator[Pass]:
    """The passes of a part where each kernel writes what it found: plain PyTorch."""
    shares = shares_of(operator, part)
    read = part.input_bytes + part.inner_input_bytes
    written = part.output_bytes + part.inner_output_bytes
    required = part.written_bytes
    for number, share in enumerate(shares):
        last = number == len(shares) - 1
        stores = required if last else 0
        repeated, spilled = wide_attention(part) if last and part.shape is not None else (0, 0)
        yield Pass(
            operator=place,
            required_read=0 if number else _own_bytes(operator, part),
            required_written=stores,
            read=share.read * read + share.cached * required,
            written=_less(share.written * written + share.kept * read, stores),
            shape=None if number else part.shape,
            repeated=repeated,
            spilled=spilled,
        )


def _of_kernels(region: Region, kernels: tuple[Kernel, ...], *, several: bool) -> Iterator[Pass]:
    """A pass for each kernel and operator: what passes between its parts stays on the chip."""
    owners = [place for place, operator in enumerate(region.operators) for _ in operator.parts]
    start = 0
    for kernel in kernels:
        end = start + len(kernel.parts)
        mine = list(zip(owners[start:end], kernel.parts, strict=True))
        begins = start == 0 or owners[start - 1] != owners[start]
        ends = end == len(owners) or owners[end] != owners[end - 1]
        for place in dict.fromkeys(owners[start:end]):
            parts = [part for owner, part in mine if owner == place]
            read: Number = 0
            written: Number = 0
            combined = parts[-1] if parts[-1].name == "combine" and several else None
            if combined is not None:
                parts = parts[:-1]
            if place == owners[start]:
                read = sum(part.input_bytes for part in parts)
                read = read if begins else read + parts[0].inner_input_bytes
            if place == owners[end - 1]:
                written = sum(part.output_bytes for part in parts)
                if combined is not None or not ends:
                    written = written + _left_bytes(parts[-1])
            required = sum(part.written_bytes for part in parts)
            yield Pass(
                operator=place,
                required_read=sum(_own_bytes(region.operators[place], part) for part in parts),
                required_written=required,
                read=read,
                written=_less(written, required),
                in_place=_stream_bytes(parts),
                shape=next((part.shape for part in parts if part.shape is not None), None),
            )
            if combined is not None:  # by the kernel of the next norm
                read = combined.input_bytes + combined.inner_input_bytes
                yield Pass(operator=place, read=read)
        start = end


def _stream_bytes(parts: list[Part]) -> Number:
    """Of a norm: the residual stream, which stays where it is."""
    return parts[0].output_bytes if parts[0].name == "residual_add" else 0


def _left_bytes(part: Part) -> Number:
    """What a kernel leaves for the operator's next kernel; scores of keys are in float32."""
    wider = 2 if part.name == "scores" else 1
    return wider * part.inner_output_bytes


def _own_bytes(operator: Operator, part: Part) -> Number:
    """Compulsory bytes that one layer reads by itself, whatever rows other layers of a table read.

    A table is too large for L2 to keep rows from one layer to the next.
    """
    return part.read_bytes + (operator.repeated_row_bytes if part.row_bytes else 0)


def _less(written: Number, required: Number) -> Number:
    """Activations written besides what goes to HBM in any case: new keys and values lie there."""
    return max(written - required, 0)
