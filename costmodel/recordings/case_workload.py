"""The workload of a recorded case: as its file states it, and as the cost model takes it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import (
    MAX_BATCH,
    MAX_CONTEXT,
    MAX_NEW_TOKENS,
    Backend,
    Phase,
    Workload,
)
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.layers.placement import Placement, parse_placement
from costmodel.routing.popularity import Routing, Uniform
from costmodel.strict import STRICT

Dtype: TypeAlias = Literal["bf16", "fp32"]
"""The format of weights and KV cache in the reference models."""

TablesIn: TypeAlias = Literal["tables=hbm", "tables=host"]
"""Where all memory tables stand, as `--placement` spells it."""
IN_HBM: TablesIn = "tables=hbm"

_LAW = r"(uniform|zipf:\d{1,2}(\.\d{1,6})?)"
ROUTING = rf"^(scores|{_LAW}|experts={_LAW},rows={_LAW})$"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CaseWorkload:
    """The workload of a case.

    `context` counts the tokens cached per sequence before the step. `routing` is `uniform`,
    `zipf:EXPONENT`, one of these for each population as `experts=LAW,rows=LAW`, or `scores`: the
    model's own choices, which no formula predicts. `placement` is left out of files where tables
    stand in HBM.
    """

    phase: Phase
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)]
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)]
    new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)]
    dtype: Dtype
    routing: Annotated[str, Field(pattern=ROUTING)]
    placement: TablesIn = Field(default=IN_HBM, exclude_if=lambda value: value == IN_HBM)

    def __post_init__(self) -> None:
        if self.phase == "decode" and self.new_tokens != 1:
            raise ValueError(f"new_tokens={self.new_tokens}: is 1 in a decode step")
        if self.routing != "scores":
            parse_routing(self.routing, files=False)

    @property
    def label(self) -> str:
        """The workload in words: `decode, batch 16, context 2,048, bf16, uniform`."""
        new_tokens = f", {self.new_tokens:,} new tokens" if self.phase == "prefill" else ""
        tables = "" if self.placement == IN_HBM else f", {self.placement}"
        return (
            f"{self.phase}, batch {self.batch:,}, context {self.context:,}{new_tokens},"
            f" {self.dtype}, {self.routing}{tables}"
        )

    @property
    def tables(self) -> Literal["hbm", "host"]:
        """Where the memory tables stand."""
        return "hbm" if self.placement == IN_HBM else "host"

    def places_tables_as(self, placement: Placement) -> bool:
        """Whether tables stood where a placement has them; a case has no cache of hot rows."""
        return (
            self.tables == placement.tables
            and not placement.leaves
            and not placement.hot_rows_bytes
        )

    def to_workload(
        self, *, routing: Routing | None = None, backend: Backend = "torch"
    ) -> Workload:
        """The workload that the cost model predicts; weights and KV cache share the case's format.

        `routing` replaces the case's own. Without it, `scores` is taken as uniform routing, since
        no formula predicts which experts or rows a model chooses.
        """
        if routing is None:
            routing = (
                Uniform() if self.routing == "scores" else parse_routing(self.routing, files=False)
            )
        dtype = DTYPES[self.dtype]
        return Workload(
            phase=self.phase,
            batch=self.batch,
            context=self.context,
            new_tokens=self.new_tokens,
            formats=Formats(default=dtype),
            kv_dtype=dtype,
            routing=routing,
            backend=backend,
            placement=parse_placement(self.placement),
        )
