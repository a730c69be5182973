"""The tables of docs/ that recordings fill, each a function of the same name as its block."""

from collections.abc import Callable, Sequence
from statistics import fmean, median

from benchmarks.state_traffic import RECORDING, state_traffic
from costmodel.recordings.error_measures import LOG_ERROR, MAPE, Errors, errors_of, mape
from costmodel.recordings.recording import load_recording
from costmodel.validation.validate import leaf_name
from docs.leaf_times import fitted_times
from docs.markdown import markdown
from docs.recorded import (
    MeasuredCase,
    decode,
    measured,
    predicted,
    prefill,
    ratio,
    recorded,
)
from docs.repeatability import committed_table

SMALL = "olmoe-227m-1.2b", "ultramemv2-227m-1.2b"
LARGE = "olmoe-1b-7b", "ultramemv2-1b-7b"
SPARSE = (SMALL[0], "ultramem-227m-1.2b", SMALL[1], "memory-plus-227m-1.2b", *LARGE)
DENSE = "llama-3.1-8b"
BATCHES = (1, 4, 16, 64, 256, 1024)
PROMPTS = (512, 2048, 8192)
PADDED = (  # leaf, model
    ("attention.qkv", DENSE),
    ("ffn.gate_up", DENSE),
    ("memory.query", LARGE[1]),
    ("moe.experts", LARGE[0]),
    ("attention.core", LARGE[0]),
    ("attention.core", DENSE),
)
RATES = (
    ("attention.core", LARGE[0]),
    ("ffn.gate_up", DENSE),
    ("moe.experts", LARGE[0]),
    ("moe.experts", SMALL[0]),
    ("memory.values", LARGE[1]),
    ("memory.retrieve", LARGE[1]),
)
EXACT = ("parameters", "buffer_bytes", "kv_held_bytes", "flops_counted")
STEP_QUANTITIES = ("graph_s", "kernel_s", "eager_s", "energy_j", "launches", "peak_memory_bytes")


def pair_steps() -> str:
    """Both pairs at four batches: predicted and measured time, compulsory and measured bytes."""
    head = (
        "model",
        "batch",
        "graph, ms: predicted",
        "measured",
        "ratio",
        "HBM read, GB: compulsory",
        "measured",
        "ratio",
    )
    rows = []
    for pair in (SMALL, LARGE):
        for batch in (1, 16, 64, 256):
            for model in pair:
                step = recorded().case(model, decode(batch)).step
                time, read = step["graph_s"], step["hbm_read_bytes"]
                rows.append(
                    (
                        model,
                        f"{batch}",
                        f"{predicted(time) * 1e3:.2f}",
                        f"{measured(time) * 1e3:.2f}",
                        f"{ratio(time):.2f}",
                        f"{predicted(read) / 1e9:.3f}",
                        f"{measured(read) / 1e9:.3f}",
                        f"{ratio(read):.3f}",
                    )
                )
    return markdown(head, rows)


def self_check() -> str:
    """Each self-check: the known value, the range over sessions, and how many sessions passed."""
    rows = []
    for name, checks in recorded().checks.items():
        shares = [(check.measured or 0) / check.known for check in checks]
        tolerance = checks[0].tolerance
        rows.append(
            (
                name,
                f"{checks[0].known:,.0f}",
                f"{min(shares):.5f} to {max(shares):.5f}",
                f"{100 * tolerance:g} %" if tolerance else "none",
                f"{sum(check.passed is True for check in checks)} of {len(checks)}",
            )
        )
    return markdown(("check", "known", "measured / known", "tolerance", "held"), rows)


def agreement() -> str:
    """Counts that must be equal, and bytes and sums that must nearly be."""
    rows: list[tuple[str, ...]] = []
    for quantity in EXACT:
        compared, equal = counts_equal(quantity)
        what = "steps and leaves" if quantity == "flops_counted" else "steps"
        rows.append((f"`{quantity}` of {what}: equal", f"{compared:,}", f"{equal:,}"))
    reads = recorded().reads_over_compulsory
    for words, shares in (
        ("2,048 tokens and more", [share for context, share in reads if context >= PROMPTS[1]]),
        ("512 tokens", [share for context, share in reads if context == PROMPTS[0]]),
    ):
        rows.append((f"decode at {words}: HBM bytes read / compulsory", *_range(shares)))
    for phase in ("decode", "prefill"):
        shares = [
            case.achieved.leaves_over_step.value or 0
            for (_, label), case in recorded().cases.items()
            if label.startswith(phase) and "counters" in case.case.runs
        ]
        rows.append((f"{phase}: reads summed over leaves / of the step", *_range(shares)))
    distinct = [
        _mean_distinct(case)
        for (model, label), case in recorded().cases.items()
        if model != DENSE and label.startswith("decode") and label.endswith("uniform")
        if case.case.workload.batch >= BATCHES[2] and "counters" in case.case.runs
    ]
    rows += [
        (
            "distinct experts or rows / expected, mean over layers, uniform, batch 16 and up",
            *_range(distinct),
        ),
        (
            "numbers below the bound",
            f"{len(recorded().cases)} cases",
            f"{recorded().below_bound}",
        ),
    ]
    return markdown(("what", "compared", "found"), rows)


def counts_equal(quantity: str) -> tuple[int, int]:
    """Of a count: how many measured values have a prediction, and how many are equal to it."""
    rows = [
        row for row in recorded().rows() if row.quantity == quantity and row.measured is not None
    ]
    return len(rows), sum(row.predicted == row.measured for row in rows)


def errors() -> str:
    """How far predictions of steps are from measurements, by quantity and phase."""
    rows = []
    for quantity in STEP_QUANTITIES:
        for phase in ("decode", "prefill"):
            ratios = [
                ratio(case.step[quantity])
                for (_, label), case in recorded().cases.items()
                if label.startswith(phase) and case.step[quantity].measured is not None
            ]
            rows.append((f"`{quantity}`", phase, *_error_cells(errors_of(ratios))))
    head = ("step", "phase", "cases", "median", MAPE, LOG_ERROR, "least", "most")
    return markdown(head, rows, text=2)


def kinds() -> str:
    """Measured over predicted kernel time of operators by kind, the layers of one together."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    kind_of: dict[str, str] = {}
    for case in recorded().cases.values():
        operators: dict[tuple[str, float], list[float]] = {}
        for row in case.leaves:
            if row.quantity == "kernel_s" and row.kind is not None:
                key = leaf_name(row.path or ""), predicted(row)
                operators.setdefault(key, []).append(measured(row))
                kind_of[key[0]] = row.kind
        for (leaf, seconds), layers in operators.items():
            pair = fmean(layers) / seconds, sum(layers)
            by_kind.setdefault(kind_of[leaf], []).append(pair)
    rows = []
    for kind, pairs in sorted(by_kind.items()):
        ratios, weights = zip(*pairs, strict=True)
        count, middle, mean, *rest = _error_cells(errors_of(ratios))
        rows.append((kind, count, middle, mean, f"{100 * mape(ratios, weights):.1f} %", *rest))
    head = ("kind", "operators", "median", MAPE, "MAPE by time", LOG_ERROR, "least", "most")
    return markdown(head, rows)


def pairs() -> str:
    """The MoE's bytes, time and energy over those of the memory model, at equal batch."""
    rows = []
    for (moe, memory), batches in ((SMALL, BATCHES), (LARGE, BATCHES[:-1])):
        for batch in batches:
            one, two = (recorded().case(model, decode(batch)) for model in (moe, memory))
            times = predicted(one.step["graph_s"]) / predicted(two.step["graph_s"])
            quotients = [
                one.value(name) / two.value(name)
                for name in ("hbm_read_bytes", "graph_s", "energy_j")
            ]
            cells = [f"{quotient:.2f}" for quotient in (*quotients, times)]
            rows.append((f"{moe} / {memory}", f"{batch:,}", *cells))
    return markdown(("pair", "batch", "bytes read", "time", "energy", "time, predicted"), rows)


def mbu() -> str:
    """Model bandwidth utilisation of decode."""
    return _by_batch((*SPARSE, DENSE), lambda case: case.achieved.mbu.value)


def routing() -> str:
    """Share of the step's kernel time in leaves whose every part is routing."""
    return _by_batch(SPARSE, lambda case: case.achieved.routing_share.value)


def tiles() -> str:
    """Tensor FLOPs executed over model FLOPs."""

    def padding(leaf: str, model: str, batch: int) -> str:
        model_flops, executed = recorded().case(model, decode(batch)).leaf("flops_tensor", leaf)
        return f"{executed / model_flops:.1f}"

    return _by_leaf(PADDED, padding)


def rates() -> str:
    """HBM bytes read in leaves over their kernel time, in GB/s."""

    def rate(leaf: str, model: str, batch: int) -> str:
        case = recorded().case(model, decode(batch))
        _, read = case.leaf("hbm_read_bytes", leaf)
        _, seconds = case.leaf("kernel_s", leaf)
        return f"{read / seconds / 1e9:,.0f}"

    return _by_leaf(RATES, rate)


def prompts() -> str:
    """Prefill: bytes read over compulsory ones, and time over predicted time."""
    rows = []
    for model in (*SPARSE, DENSE):
        steps = [recorded().case(model, prefill(tokens)).step for tokens in PROMPTS]
        found = [step[name] for name in ("hbm_read_bytes", "graph_s") for step in steps]
        rows.append((model, *(f"{ratio(row):.2f}" for row in found)))
    head = ("model", "bytes: 512", "2,048", "8,192", "time: 512", "2,048", "8,192")
    return markdown(head, rows)


def repeat() -> str:
    """What the second run of two models says of the first."""
    return committed_table()


def _mean_distinct(case: MeasuredCase) -> float:
    """Distinct items that the layers touched, over those expected, in the run `counters`."""
    rows = [row for row in case.leaves if (row.run, row.quantity) == ("counters", "distinct")]
    return sum(map(measured, rows)) / sum(map(predicted, rows))


def _range(values: Sequence[float]) -> tuple[str, str]:
    least_to_most = f"{min(values):.4f} to {max(values):.4f}, median {median(values):.4f}"
    return f"{len(values):,}", least_to_most


def _error_cells(error: Errors) -> tuple[str, ...]:
    return (
        f"{error.count:,}",
        f"{error.median:.2f}",
        f"{100 * error.mape:.1f} %",
        f"{100 * error.log_error:.1f} %",
        f"{error.least:.2f}",
        f"{error.most:.2f}",
    )


def _by_batch(models: Sequence[str], share: Callable[[MeasuredCase], float | None]) -> str:
    rows = []
    for model in models:
        cases = [recorded().cases.get((model, decode(batch))) for batch in BATCHES]
        shares = [None if case is None else share(case) for case in cases]
        rows.append((model, *("-" if v is None else f"{100 * v:.1f} %" for v in shares)))
    return markdown(("model", "batch 1", *(f"{batch:,}" for batch in BATCHES[1:])), rows)


def _by_leaf(leaves: Sequence[tuple[str, str]], cell: Callable[[str, str, int], str]) -> str:
    rows = [
        (f"`{leaf}`", model, *(cell(leaf, model, batch) for batch in BATCHES[:-1]))
        for leaf, model in leaves
    ]
    return markdown(("leaf", "model", "batch 1", "4", "16", "64", "256"), rows, text=2)


def states() -> str:
    """What states moved in steps of a small hybrid model, over what is predicted."""
    rows = [
        (
            f"{row.batch}", f"{row.predicted_bytes:,}",
            f"{row.read_bytes / row.predicted_bytes:.4f}",
            f"{row.written_bytes / row.predicted_bytes:.4f}",
            "-" if row.leaf_ratio is None else f"{row.leaf_ratio:.4f}",
        )
        for row in state_traffic(load_recording(RECORDING))
    ]  # fmt: skip
    head = ("sequences", "state of all but one (bytes)", "read", "written", "read, by leaf")
    return markdown(head, rows, text=0)


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(pair_steps, self_check, agreement, errors, kinds, repeat),
        *(pairs, mbu, routing, tiles, rates, prompts, states, fitted_times),
    )
}
