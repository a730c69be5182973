"""The passes of a step: what each kernel of a backend reads of earlier ones, and writes for later.

A pass is a sweep over its operands, from their beginning to their end, by one kernel or by several
alike. Compulsory bytes come from HBM whatever happened before; what earlier passes wrote may still
be in L2. `costmodel/costs/hbm_traffic.py` says how much of it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from costmodel.backends.step_kernels import Kernel, Region, StepKernels
from costmodel.backends.torch_passes import shares_of
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
    shape: Shape | None = None  # of the work; None: each byte is read once

    @property
    def footprint(self) -> Number:
        """All bytes that it touches."""
        return self.required_read + self.required_written + self.read + self.written


def passes_of(region: Region, kernels: StepKernels) -> Iterator[Pass]:
    """The passes of one layer of a region, in order."""
    if kernels.backend.saves_intermediates:
        yield from _of_kernels(region, tuple(kernels.kernels(region)))
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
        yield Pass(
            operator=place,
            required_read=0 if number else _own_bytes(operator, part),
            required_written=stores,
            read=share.read * read + share.cached * required,
            written=_less(share.written * written + share.kept * read, stores),
            shape=None if number else part.shape,
        )


def _of_kernels(region: Region, kernels: tuple[Kernel, ...]) -> Iterator[Pass]:
    """A pass for each kernel: what passes between its own parts stays on the chip."""
    owners = [
        (place, operator) for place, operator in enumerate(region.operators) for _ in operator.parts
    ]
    start = 0
    for kernel in kernels:
        end = start + len(kernel.parts)
        begins = start == 0 or owners[start - 1][0] != owners[start][0]
        ends = end == len(owners) or owners[end][0] != owners[end - 1][0]
        parts = kernel.parts
        first_place, last_place = owners[start][0], owners[end - 1][0]
        for place in range(first_place, last_place + 1):
            mine = [
                part
                for part, (owner, _) in zip(parts, owners[start:end], strict=True)
                if owner == place
            ]
            read: Number = 0
            written: Number = 0
            if place == first_place:
                read = sum(part.input_bytes for part in mine)
                read = read if begins else read + parts[0].inner_input_bytes
            if place == last_place:
                written = sum(part.output_bytes for part in mine)
                written = written if ends else written + parts[-1].inner_output_bytes
            required = sum(part.written_bytes for part in mine)
            yield Pass(
                operator=place,
                required_read=sum(_own_bytes(region.operators[place], part) for part in mine),
                required_written=required,
                read=read,
                written=_less(written, required),
                shape=next((part.shape for part in mine if part.shape is not None), None),
            )
        start = end


def _own_bytes(operator: Operator, part: Part) -> Number:
    """Compulsory bytes that one layer reads by itself, whatever rows other layers of a table read.

    A table is too large for L2 to keep rows from one layer to the next.
    """
    return part.read_bytes + (operator.repeated_row_bytes if part.row_bytes else 0)


def _less(written: Number, required: Number) -> Number:
    """Activations written besides what goes to HBM in any case: new keys and values lie there."""
    return max(written - required, 0)
