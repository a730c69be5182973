"""Quantities of a step's time, energy and price, and of two models compared."""

from costmodel.costs.quantities.quantity import Quantity

_PREDICTED = "costmodel.costs.latency:step_time"
_COLUMNS = "costmodel.costs.columns:predicted_columns"

TIME = (
    Quantity(
        name="time.floor_s",
        label="roofline bound",
        unit="s",
        counts="the longer of compulsory bytes / bandwidth and FLOPs / dense peak, by datasheet;"
        " with tables outside HBM also of link and disk",
        leaves_out="launches, latency, padding of tiles, traffic beyond the compulsory bytes",
        formula="costmodel.costs.roofline:floor_s",
        also=("operators.floor_s", "rows.floor_s"),
    ),
    Quantity(
        name="time.bound_by",
        label="limiting resource",
        unit="text",
        counts="which of the terms is the longest: memory, compute, link or disk",
        formula="costmodel.costs.roofline:bound_by",
        also=("operators.bound_by", "rows.bound_by"),
    ),
    Quantity(
        name="time.fits_l2",
        label="touched bytes fit the L2 cache",
        unit="bool",
        counts="whether compulsory bytes are at most the L2 cache's; if so, a step that finds them"
        " there may beat the memory term of the bound, which holds from a cold L2 only",
        formula="costmodel.costs.predict:predict",
    ),
    Quantity(
        name="time.floor_tokens_per_s",
        label="throughput at the roofline bound",
        unit="tokens_per_s",
        counts="the step's B T new tokens over the bound: at most so many",
        formula="costmodel.costs.columns:columns",
    ),
    Quantity(
        name="time.predicted_s",
        label="predicted time",
        unit="s",
        counts="by calibrated kernels: decode as a CUDA graph, prefill launched eagerly",
        leaves_out="what one operator leaves in L2 for the next, and overlap of kernels",
        formula=_PREDICTED,
        also=("rows.predicted_s",),
        calibrated=True,
    ),
    Quantity(
        name="time.predicted_graph_s",
        label="predicted time as a CUDA graph",
        unit="s",
        counts="the sum over the operators' kernels, each launched within the graph",
        leaves_out="what one operator leaves in L2 for the next, and overlap of kernels",
        formula=_PREDICTED,
        also=("operators.predicted_s", "operators.parts.predicted_s", "regions.predicted_s"),
        calibrated=True,
    ),
    Quantity(
        name="time.predicted_eager_s",
        label="predicted time launched eagerly",
        unit="s",
        counts="the longer of the kernels' sum and of all launches at their eager cost",
        formula=_PREDICTED,
        calibrated=True,
    ),
    Quantity(
        name="time.tokens_per_s",
        label="predicted throughput",
        unit="tokens_per_s",
        counts="the step's B T new tokens over the predicted time",
        formula=_COLUMNS,
        calibrated=True,
    ),
)

ENERGY = (
    Quantity(
        name="energy.predicted_j",
        label="predicted energy",
        unit="j",
        counts="idle power over the predicted time, and what bytes and FLOPs take beyond it",
        leaves_out="padding of tiles, and clocks that fall at the power limit",
        formula="costmodel.costs.energy:energy_j",
        also=("rows.predicted_j",),
        calibrated=True,
    ),
    Quantity(
        name="energy.j_per_token",
        label="energy per token",
        unit="j",
        counts="the step's energy over its B T new tokens",
        formula=_COLUMNS,
        calibrated=True,
    ),
)

PRICE = Quantity(
    name="cost.usd_per_million_tokens",
    label="predicted cost per million tokens of such steps",
    unit="usd",
    counts="price of an hour / 3600 s x predicted time / B T new tokens, times a million",
    leaves_out="idle time, and prefill where the step is a decode step",
    formula="costmodel.questions.request:step_usd_per_million_tokens",
    none_because="no price given",
)

COMPARED = (
    Quantity(
        name="rows.bytes_of_first_over_this",
        label="compulsory bytes of the first model over this one's",
        unit="ratio",
        counts="above 1: the model moves fewer bytes than the first",
        formula="costmodel.show.comparison_json:bytes_of_first_over_this",
    ),
    Quantity(
        name="advantages.batches",
        label="batches of the advantage",
        unit="count",
        counts="first and last batch over which the model needs less; a last of null: no end",
        leaves_out="two crossings less than 2 % of the batch apart",
        formula="costmodel.questions.compare:advantage",
    ),
    Quantity(
        name="advantages.max_batch",
        label="largest batch that fits with either model",
        unit="count",
        counts="the lesser of both models' largest batches",
        formula="costmodel.questions.compare:compare",
    ),
)
