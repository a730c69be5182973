"""A step as a list of launches, and the residual stream while the list is put together.

What a sublayer gives is not added to the stream at once: it waits, and the next kernel that reads
the stream anyway adds it. So a plan knows at each place where the stream lies and what waits.

Some launches may run beside others: they form a branch, on a stream of the device of its own, until
a later launch joins it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from costmodel.layers.site import region_path
from reference_model.kernels.linear_split import SplitBuffers, SplitTile
from reference_model.kernels.norm import add_norm
from reference_model.layers import Norm
from reference_model.leaf import NORM_EPS


@dataclass(frozen=True, slots=True)
class Launch:
    """One call that launches a kernel, and the leaf or region whose work it does."""

    path: str
    run: Callable[[], object]
    stream: int = 0  # 0: the step's own; a branch has another number
    forks: int | None = None  # the first of a branch: it begins behind all of this stream so far
    joins: tuple[int, ...] = ()  # begins behind all of these branches, too


class Plan:
    """The launches of a step of T tokens so far.

    Attributes:
        stream: Where the residual stream lies, [T, D].
        spare: As large; a kernel that may not write the stream in place writes here.
        normed: [T, D], the input of the sublayer that comes next.
        pdl: Whether a kernel may begin before the previous one ends (programmatic dependent
            launch): not the first of a branch, nor one that joins it.
        most: How many sublayers' outputs may wait at once.
        waiting: How many do; they lie in `add` [waiting, T, D].
        results: Experts' results that wait to be added by `weights` [T, k], or None: [T k, D], or
            [R, D] with the row of each pair in `places` [T, k].
    """

    def __init__(
        self,
        tokens: int,
        hidden: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pdl: bool,
        most: int = 2,
    ) -> None:
        self.tokens, self.hidden, self.device, self.dtype = tokens, hidden, device, dtype
        self.most, self.waiting = most, 0
        self._pdl, self._stream = pdl, 0
        self._forks: int | None = None
        self._open: list[int] = []  # branches that nothing has joined
        self._joins: tuple[int, ...] = ()
        self.launches: list[Launch] = []
        self.stream, self.spare, self.normed = (self.room(tokens, hidden) for _ in range(3))
        self.results: Tensor | None = None
        self.weights: Tensor | None = None
        self.places: Tensor | None = None
        self._shared: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._split: dict[tuple[int, SplitTile, int], SplitBuffers] = {}

    @property
    def single(self) -> bool:
        """Whether the step has one token: then kernels without the matrix unit do it all."""
        return self.tokens == 1

    def room(self, *shape: int) -> Tensor:
        """A tensor of the model's format; NaN, so that what nobody writes is seen."""
        return torch.full(shape, torch.nan, device=self.device, dtype=self.dtype)

    def shared_room(self, name: str, *shape: int) -> Tensor:
        """A tensor that all layers use, one after another."""
        key = name, shape
        if key not in self._shared:
            self._shared[key] = self.room(*shape)
        return self._shared[key]

    @property
    def add(self) -> Tensor | None:
        """What waits to be added to the stream, [waiting, T, D]; None: nothing does."""
        return self._added[: self.waiting] if self.waiting else None

    def wait(self) -> Tensor:
        """Where one more sublayer leaves its output [T, D], to be added by a later kernel."""
        self.waiting += 1
        assert self.waiting <= self.most, self.most
        return self._added[self.waiting - 1]

    @property
    def _added(self) -> Tensor:
        return self.shared_room("added", self.most, self.tokens, self.hidden)

    def split_buffers(self, outputs: int, tile: SplitTile, tokens: int) -> SplitBuffers:
        """Where the blocks of a split product leave their sums; all layers share it."""
        key = outputs, tile, tokens
        if key not in self._split:
            self._split[key] = SplitBuffers.make(outputs, tile, tokens, str(self.device))
        return self._split[key]

    def launch(self, path: str, kernel: Callable[..., object], *args: object, **kw: object) -> None:
        """Put a call of `kernel` at the end."""
        launch = Launch(
            path, partial(kernel, *args, **kw), stream=self._stream, forks=self._forks,
            joins=self._joins,
        )  # fmt: skip
        self.launches.append(launch)
        self._forks, self._joins = None, ()

    @property
    def pdl(self) -> bool:
        """Whether the next kernel may begin before the previous one ends."""
        return self._pdl and self._forks is None and not self._joins

    @contextmanager
    def branch(self) -> Iterator[None]:
        """Launches inside run beside those that follow, until one after `join`.

        A branch may begin within another. One that begins outside all others runs behind those that
        began there before, and behind what began within them: they may share buffers.
        """
        outer = self._stream
        self._stream, self._forks = outer + 1, outer
        self._joins = tuple(number for number in self._open if number > self._stream)
        if self._stream not in self._open:
            self._open.append(self._stream)
        yield
        self._stream, self._forks = outer, None

    def join(self) -> None:
        """The next launch waits for all branches."""
        self._joins = tuple(self._open)
        self._open.clear()

    @property
    def streams(self) -> int:
        """How many streams the launches are on."""
        return 1 + max((launch.stream for launch in self.launches), default=0)

    def launch_norm(self, path: str, norm: Norm, out: Tensor | None = None, every: int = 1) -> None:
        """Add to the stream what waits, and norm it into `normed` or `out`: one kernel.

        Of `every` so many tokens only the last is needed, and is taken.
        """
        self.launch(
            path, add_norm, self.stream, norm.weight, self.normed if out is None else out,
            eps=NORM_EPS, add=self.add, results=self.results, weights=self.weights,
            places=self.places, every=every, pdl=self.pdl,
        )  # fmt: skip
        self.clear()

    def clear(self) -> None:
        """Forget what waits: some kernel has added it."""
        self.waiting, self.results, self.weights, self.places = 0, None, None, None

    def swap(self) -> None:
        """The stream with all that waited now lies in `spare`."""
        self.stream, self.spare = self.spare, self.stream
        self.clear()


def region(prefix: str, *leaves: str) -> str:
    """The path of one leaf of a layer, or of neighbours that one kernel does together."""
    return prefix + (leaves[0] if len(leaves) == 1 else region_path(leaves))
