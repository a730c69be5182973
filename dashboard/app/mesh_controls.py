"""The sidebar's fields of several GPUs: how many, and how model and sequences are divided."""

from dataclasses import dataclass
from typing import get_args

import streamlit as st

from costmodel.layers.mesh import MAX_GPUS, ONE_GPU, AskedMesh, Mesh, TableSplit
from dashboard.app.address import linked, one_of, whole

ONE, AUTO = "1", "auto"
NUMBERS = (
    *(ONE, AUTO, "2", "3", "4", "6", "8", "12", "16", "24", "32", "48", "64", "72", "96", "128"),
    *("256", "512", "1024"),
)
KEY = "gpus"  # in the address
TABLE_SPLITS: tuple[TableSplit, ...] = get_args(TableSplit)
SIZES = {  # by key: label, help
    "tp": ("tp: GPUs that share a layer", "Tensor parallel: heads and FFN widths are divided."),
    "ep": ("ep: sets of experts", "Expert parallel: each set stands on GPUs of its own."),
    "pp": ("pp: stages", "Pipeline parallel: each stage has layers of its own."),
    "dp": (
        "dp: groups of sequences",
        "Data parallel: each group of GPUs works on sequences of its own.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenMesh:
    """The GPUs as the user set them; a size that is None is chosen for each model."""

    gpus: str = ONE
    tp: int | None = None
    ep: int | None = None
    pp: int | None = None
    dp: int | None = None
    tables: TableSplit = "width"

    def mesh(self) -> Mesh | AskedMesh:
        """The mesh.

        Raises:
            InputError: Sizes do not multiply to the GPUs.
        """
        if self.gpus == ONE:
            return ONE_GPU
        fewest = self.gpus == AUTO
        return AskedMesh(
            gpus=None if fewest else int(self.gpus),
            fewest=fewest,
            tp=self.tp,
            ep=self.ep,
            pp=self.pp,
            dp=self.dp,
            tables=self.tables,
        )


def mesh_controls(*, has_tables: bool) -> ChosenMesh:
    """Draw the fields; those of a division only where there is something to divide."""
    gpus = str(
        st.selectbox(
            "How many GPUs",
            NUMBERS,
            **linked(KEY, one_of(NUMBERS), instead=ONE),
            help="They do the step together. auto: the fewest that have enough memory for"
            " each model. Nothing on several GPUs was measured by this project.",
        )
    )
    if gpus == ONE:
        return ChosenMesh()
    with st.expander("How the GPUs divide the work", key="mesh"):
        sizes = {name: _size(name, *texts) for name, texts in SIZES.items()}
        tables: TableSplit = "width"
        if has_tables:
            tables = st.segmented_control(
                "Memory tables are divided by",
                TABLE_SPLITS,
                default="width",
                required=True,
                **linked("split_tables", one_of(TABLE_SPLITS), instead="width"),
                help="width: each GPU has a slice of every row, and all have as much to do. rows:"
                " each GPU has whole rows.",
            )
    return ChosenMesh(gpus=gpus, tables=tables, **sizes)


def _size(name: str, label: str, about: str) -> int | None:
    size = st.number_input(
        label,
        min_value=1,
        max_value=MAX_GPUS,
        value=None,
        step=1,
        placeholder="chosen",
        **linked(name, whole(1, MAX_GPUS, may_be_empty=True), instead=None),
        help=f"{about} Empty: the fastest that fits is chosen.",
    )
    return None if size is None else int(size)


def ask_for_fewest() -> None:
    """Set the sidebar to as few GPUs as fit: what a button does when it is pressed."""
    st.session_state[KEY] = AUTO
