"""A mesh of GPUs: how a model and its sequences are divided over them.

The GPUs of a replica form `pp` stages of `dp` groups of `tp` GPUs. Every GPU of a group works on
the same sequences: heads, FFN widths, embeddings and head are divided over `tp`. Each of the `dp`
groups has sequences of its own. Each of the `pp` stages has layers of its own. Routed experts and
memory tables are divided over all tp x dp GPUs of a stage, whatever the groups: the `ep` sets of
experts over `ep` sets of GPUs, and each expert over the tp x dp / ep GPUs of its set.

Source of the terms: Megatron-LM, arXiv 1909.08053 (tp) and 2104.04473 (pp); GShard, arXiv
2006.16668 (ep); attention in data parallel beside experts, DeepSeek-V3, arXiv 2412.19437, section
3.4; tables over their width, UltraMemV2, arXiv 2508.18756.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from costmodel.errors import InputError

TableSplit: TypeAlias = Literal["width", "rows"]
MAX_GPUS = 2**14


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """tp x dp x pp GPUs.

    Attributes:
        tp: GPUs among which a layer is divided (tensor parallel).
        ep: Sets of experts (expert parallel); it divides tp x dp.
        pp: Stages of layers (pipeline parallel).
        dp: Groups with sequences of their own (data parallel).
        tables: How the tp x dp GPUs divide a memory table: each has a slice of every row, or some
            whole rows.
        redundant_experts: Copies of the most popular experts, beside the E of a layer.
    """

    tp: int = 1
    ep: int = 1
    pp: int = 1
    dp: int = 1
    tables: TableSplit = "width"
    redundant_experts: int = 0

    def __post_init__(self) -> None:
        """Whole numbers of GPUs; experts are divided over the GPUs of a stage."""
        for name in ("tp", "ep", "pp", "dp"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name}={value}: is at least 1")
        if self.gpus > MAX_GPUS:
            raise InputError(
                f"gpus={self.gpus}: tp x dp x pp = {self.tp} x {self.dp} x {self.pp} exceeds"
                f" {MAX_GPUS}"
            )
        if self.of_stage % self.ep:
            raise InputError(
                f"ep={self.ep}: does not divide tp x dp = {self.tp} x {self.dp} = {self.of_stage},"
                " the GPUs that share the experts of a layer"
            )
        if self.redundant_experts < 0:
            raise InputError(f"redundant_experts={self.redundant_experts}: is at least 0")
        if self.redundant_experts and self.ep == 1:
            raise InputError(
                f"redundant_experts={self.redundant_experts}: copies of experts need several sets"
                " of experts, ep above 1"
            )

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return self.tp * self.dp * self.pp

    @property
    def of_stage(self) -> int:
        """The GPUs of one stage: tp x dp. They share experts and memory tables."""
        return self.tp * self.dp

    @property
    def gpus_of_an_expert(self) -> int:
        """The GPUs among which each expert is divided: tp x dp / ep."""
        return self.of_stage // self.ep

    @property
    def label(self) -> str:
        """As a user writes it, with what is not 1: `8 GPUs (tp 8)`."""
        sizes = [f"{name} {getattr(self, name)}" for name in ("tp", "ep", "pp", "dp")]
        shown = [size for size in sizes if not size.endswith(" 1")]
        gpus = f"{self.gpus} GPU{'' if self.gpus == 1 else 's'}"
        return f"{gpus} ({', '.join(shown)})" if shown else gpus

    def of_tp(self, size: int, field: str) -> int:
        """What one GPU of a group has of a size.

        Raises:
            InputError: It does not divide; the message names `field`.
        """
        if size % self.tp:
            raise InputError(f"tp={self.tp}: does not divide {field}={size}")
        return size // self.tp


ONE_GPU = Mesh()


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMesh:
    """A mesh as a user asks for it: what is None is to be chosen, for a model and a GPU.

    Attributes:
        gpus: All GPUs; None: as many as the sizes say, or with `fewest` the fewest that fit.
        fewest: Whether to take the fewest GPUs whose memory suffices.
        tp: As in `Mesh`; likewise the others.
    """

    gpus: int | None = None
    fewest: bool = False
    tp: int | None = None
    ep: int | None = None
    pp: int | None = None
    dp: int | None = None
    tables: TableSplit = "width"
    redundant_experts: int = 0

    def __post_init__(self) -> None:
        """Sizes are at least 1, and multiply to the GPUs."""
        for name in ("gpus", "tp", "ep", "pp", "dp"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_GPUS:
                raise InputError(f"{name}={value}: must lie between 1 and {MAX_GPUS:,}")
        if self.gpus is None:
            return
        stated = {name: getattr(self, name) for name in ("tp", "dp", "pp")}
        known = [size for size in stated.values() if size is not None]
        if self.gpus % prod(known) or (len(known) == len(stated) and prod(known) != self.gpus):
            sizes = " x ".join(
                f"{name}={size}" for name, size in stated.items() if size is not None
            )
            raise InputError(f"gpus={self.gpus}: is tp x dp x pp, which {sizes} does not make")

    @property
    def label(self) -> str:
        """As a user writes it, what is to be chosen in: `auto`, `8 GPUs (tp 2)`."""
        sizes = [
            f"{name} {size}"
            for name in ("tp", "ep", "pp", "dp")
            if (size := getattr(self, name)) is not None
        ]
        gpus = "the fewest GPUs that fit" if self.gpus is None else f"{self.gpus} GPUs"
        return f"{gpus} ({', '.join(sizes)})" if sizes else gpus

    @property
    def stated(self) -> Mesh | None:
        """The mesh, if nothing of it is to be chosen: sizes that were left out are 1."""
        if self.fewest or self.gpus is not None:
            return None
        return Mesh(
            tp=self.tp or 1,
            ep=self.ep or 1,
            pp=self.pp or 1,
            dp=self.dp or 1,
            tables=self.tables,
            redundant_experts=self.redundant_experts,
        )

    def of(self, gpus: int, *, most_tp: int, has_experts: bool) -> Iterator[Mesh]:
        """All meshes of so many GPUs that agree with what was asked for, without stages first.

        Experts are divided into as many sets as GPUs, or not at all, unless `ep` says more.

        Args:
            gpus: tp x dp x pp.
            most_tp: Of GPUs among which a layer is divided, unless `tp` says more.
            has_experts: Whether the model has routed experts.
        """
        stages = [self.pp] if self.pp else [pp for pp in range(1, gpus + 1) if not gpus % pp]
        for pp in stages:
            of_stage, rest = divmod(gpus, pp)
            for tp in range(1, of_stage + 1):
                dp, uneven = divmod(of_stage, tp)
                wrong = (self.tp or tp) != tp or (self.dp or dp) != dp
                if rest or uneven or wrong or tp > (self.tp or most_tp):
                    continue
                sets = [1, of_stage] if has_experts and of_stage > 1 else [1]
                for ep in [self.ep] if self.ep else sets:
                    if of_stage % ep:
                        continue
                    yield Mesh(
                        tp=tp,
                        ep=ep,
                        pp=pp,
                        dp=dp,
                        tables=self.tables,
                        redundant_experts=self.redundant_experts if ep > 1 else 0,
                    )
