"""A step on several GPUs on the Explore page: cards of one GPU, the exchanges, and a way to fit.

Numbers are those of `predict --json`, in its section `parallel`.
"""

from dataclasses import replace
from typing import Any

import streamlit as st

from costmodel import units
from costmodel.costs.chosen_mesh import with_mesh
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import AskedMesh
from costmodel.show.tables.mesh import NOT_MEASURED
from costmodel.show.text import capitalised
from dashboard.app.mesh_controls import ask_for_fewest
from dashboard.app.widgets import Card, cards, plain, table

JSON = dict[str, Any]
CARDS = (  # of one GPU
    "parallel.per_gpu.total_bytes",
    "parallel.per_gpu.hbm_bytes",
    "parallel.per_gpu.flops",
    "parallel.communication.time_s",
    "parallel.communication.bytes",
    "parallel.busiest_experts",
    "parallel.busiest_rows",
)
EXCHANGED = (  # of an exchange, with the prefix of its unit in a table
    ("time_s", "u"),
    ("floor_s", "u"),
    ("sent_bytes", "k"),
    ("gpus", ""),
    ("payload_bytes", "k"),
    ("low_s", "u"),
    ("high_s", "u"),
)


def draw_mesh(prediction: Prediction, data: JSON) -> None:
    """What one GPU has and sends; nothing on one GPU."""
    if prediction.parallel is None:
        return
    st.subheader(plain(f"One of {prediction.workload.mesh.label}"))
    cards(mesh_cards(data), across=3)
    rows = exchange_rows(data)
    if rows:
        table(rows, alt="Exchanges between GPUs, each of one layer", key="ex_exchanges")
    st.caption(NOT_MEASURED)


def mesh_cards(data: JSON) -> list[Card]:
    """The cards of one GPU; those of numbers that the model lacks are left out."""
    drawn = []
    for name in CARDS:
        value = _value(data, name)
        if value is None:
            continue
        quantity = STEP_QUANTITIES[name]
        drawn.append(
            Card(
                label=capitalised(quantity.label),
                value=units.formatted(value, quantity.unit),
                help=f"{capitalised(quantity.counts)}.{_further(data, name)}",
            )
        )
    return drawn


def _further(data: JSON, name: str) -> str:
    """What else the help of a card says."""
    exchanged = data["parallel"]["communication"]
    if name == "parallel.communication.time_s":
        low, high = (units.seconds(exchanged[end]) for end in ("low_s", "high_s"))
        return f" Published figures span {low} to {high}."
    if name == "parallel.communication.bytes":
        network = units.traffic(exchanged["network_bytes"])
        return f" Of them {network} go to other nodes, over the network."
    return ""


def _value(data: JSON, name: str) -> Any:  # noqa: ANN401 - a number or None
    value: Any = data
    for key in name.split("."):
        value = value[key]
    return value


def exchange_rows(data: JSON) -> list[JSON]:
    """The exchanges of one microbatch, in the units of the headers."""
    rows = []
    for exchange in data["parallel"]["exchanges"]:
        row: JSON = {"Exchange": exchange["path"], "Layers": exchange["count"]}
        for field, prefix in EXCHANGED:
            quantity = STEP_QUANTITIES[f"parallel.exchanges.{field}"]
            symbol, one = units.scale(quantity.unit, prefix)
            head = capitalised(f"{quantity.label}, {symbol}" if prefix else quantity.label)
            row[head] = units.rounded(exchange[field] / one, DIGITS) if prefix else exchange[field]
        rows.append(row)
    return rows


def fewest(prediction: Prediction) -> Workload | str:
    """The step on the fewest GPUs that fit, or why there are none."""
    workload = replace(prediction.workload, mesh=AskedMesh(fewest=True))
    try:
        return with_mesh(prediction.model, workload, prediction.hardware, prediction.ceilings)
    except InputError as error:
        return str(error)


def draw_fewest(found: Workload | str) -> None:
    """Offer the `fewest` GPUs that fit a step which does not."""
    if isinstance(found, str):
        st.caption(plain(f"No number of GPUs does: {found}"))
        return
    st.button(
        f"Cost it on {found.mesh.label}, the fewest that fit",
        on_click=ask_for_fewest,
        key="ex_fewest",
        icon=":material/memory:",
    )
