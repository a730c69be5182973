"""What a multimodal model holds in memory beside its text model: towers and their projectors."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.dtype import DTYPES
from costmodel.strict import STRICT

MAX_TOWERS = 8
TowerFormat: TypeAlias = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tower:
    """A vision tower or a projector: weights that are resident, and that no text step reads."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")]
    parameters: Annotated[int, Field(ge=1, le=2**44)]
    dtype: TowerFormat = "bf16"  # in which it is stored; `--dtype` is of the text model

    @property
    def stored_bytes(self) -> int:
        """All parameters in the format."""
        return self.parameters * DTYPES[self.dtype].bits // 8
