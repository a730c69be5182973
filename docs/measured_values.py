"""Numbers that stand in sentences of the pages and come from recordings, by name.

All times are of the backend `torch`, all cases of an H200; measured values are medians.
"""

import json
from itertools import chain
from pathlib import Path
from statistics import median, quantiles

from costmodel.inputs.workload import Phase
from costmodel.recordings.error_measures import Errors, errors_of
from docs.held_out import held_out_points
from docs.held_out_targets import off
from docs.recorded import MeasuredCase, decode, prefill, ratio, recorded
from docs.tables import BATCHES, DENSE, LARGE, PROMPTS, SMALL, counts_equal
from docs.wording import listed, span

REFERENCE = Path(__file__).with_name("reference_model_h200.json")
COMPARED = (("bytes", "hbm_read_bytes"), ("time", "graph_s"), ("energy", "energy_j"))
REPLAYED = ((DENSE, 1), ("ultramem-227m-1.2b", 16), (LARGE[0], 1))  # of "What a replay takes"


def measured_values() -> dict[str, str]:
    """All of them."""
    return cases() | reads() | errors() | held_out() | pairs() | gaps() | causes() | repeats()


def cases() -> dict[str, str]:
    """How many cases there are, and how many sessions and profiles checked themselves."""
    known = recorded()
    sessions = chain.from_iterable(each.sessions for each in known.recordings.values())
    checked = [session for session in sessions if session.self_check]
    profiles = {(session.started, str(session.self_check)) for session in checked}
    equal = {
        quantity: "{1:,} of {0:,}".format(*counts_equal(quantity))
        for quantity in ("parameters", "flops_counted")
    }
    return {
        "models": f"{len(known.recordings)}",
        "cases": f"{len(known.cases)}",
        "cases_planned": f"{known.planned}",
        "cases_lacking": f"{known.planned - len(known.cases)}",
        "parameters_equal": equal["parameters"],
        "flops_equal": equal["flops_counted"],
        "sessions_checked": f"{len(checked)}",
        "profiles_checked": f"{len(profiles)}",
    }


def reads() -> dict[str, str]:
    """HBM bytes read over compulsory bytes; of decode, over those of what the run touched."""
    shares = recorded().reads_over_compulsory
    long = [share for context, share in shares if context >= PROMPTS[1]]
    short = [share for context, share in shares if context == PROMPTS[0]]
    prompts = [ratio(case.step["hbm_read_bytes"]) for case in recorded().of_phase("prefill")]
    return {
        "reads_long_cases": f"{len(long)}",
        "reads_long_median": f"{median(long):.4f}",
        "reads_long_least": f"{min(long):.4f}",
        "reads_long_most": f"{max(long):.4f}",
        "reads_short_most": f"{max(short):.2f}",
        "reads_prefill_median": f"{median(prompts):.2f}",
    }


def errors() -> dict[str, str]:
    """How far predicted times and energies of steps are from the measured ones."""
    graph, prompts = _errors("graph_s", "decode"), _errors("graph_s", "prefill")
    moe = [
        ratio(recorded().case(model, prefill(tokens)).step["graph_s"])
        for model in (SMALL[0], LARGE[0])
        for tokens in PROMPTS
    ]
    return {
        "graph_decode_cases": f"{graph.count}",
        "graph_decode_median": f"{graph.median:.2f}",
        "graph_decode_least": f"{graph.least:.2f}",
        "graph_decode_most": f"{graph.most:.2f}",
        "graph_decode_mape": f"{100 * graph.mape:.1f} %",
        "graph_decode_error": f"{100 * graph.log_error:.1f} %",
        "graph_prefill_cases": f"{prompts.count}",
        "graph_prefill_mape": f"{100 * prompts.mape:.1f} %",
        "eager_decode_median": f"{_errors('eager_s', 'decode').median:.2f}",
        "energy_decode_median": f"{_errors('energy_j', 'decode').median:.2f}",
        "moe_prefill_most": f"{max(moe):.1f}",
    }


def held_out() -> dict[str, str]:
    """The errors of held-out models, once they are measured."""
    found = {}
    for phase in ("decode", "prefill"):
        for backend in ("torch", "fused"):
            of = held_out_points("graph_s", phase, backend)
            mape = errors_of([point.ratio for point in of]).mape if of else None
            text = "not measured" if mape is None else f"{100 * mape:.1f} %"
            found[f"held_out_{phase}_{backend}"] = text
    reads = [
        point
        for phase in ("torch", "fused")
        for point in held_out_points("hbm_read_bytes", "decode", phase)
    ]
    found["held_out_reads_worst"] = f"{100 * max(off(reads)):.0f} %" if reads else "not measured"
    return found


def pairs() -> dict[str, str]:
    """The memory models against the MoE, decode at 2,048 cached tokens."""
    values = {}
    for name, pair, batches in (("small", SMALL, BATCHES), ("large", LARGE, BATCHES[:-1])):
        for word, quantity in COMPARED:
            wins = [f"{batch:,}" for batch in batches if _share(pair, batch, quantity) < 1]
            if wins:
                values[f"pair_{name}_{word}_wins"] = listed(wins)
    moe_over_memory = [1 / _share(LARGE, batch, "graph_s") for batch in BATCHES[:-1]]
    values["pair_large_time_range"] = span(moe_over_memory, ".2f")
    for word, quantity in COMPARED:
        less = 1 - _share(LARGE, 16, quantity)
        values[f"pair_large_16_{word}_less"] = f"{100 * less:.0f} %"
    over = [
        ratio(recorded().case(model, decode(batch)).step["hbm_read_bytes"]) - 1
        for model in (*SMALL, *LARGE)
        for batch in (1, 16, 64, 256)
    ]
    example = recorded().case(LARGE[0], decode(16)).value("graph_s")
    return values | {
        "pair_reads_over": f"{100 * max(over):.1f} %",
        "example_ms": f"{1e3 * example:.2f}",
    }


def gaps() -> dict[str, str]:
    """What the kernels, traced in eager steps, leave of a decode step's CUDA graph."""
    steps = list(recorded().of_phase("decode"))
    shares = [100 * step.value("kernel_s") / step.value("graph_s") for step in steps]
    found = [step.achieved.gap_per_kernel_s.value for step in steps]
    us = sorted(1e6 * gap for gap in found if gap is not None)
    low, middle, high = quantiles(us, n=4)
    return {
        "kernels_least": f"{min(shares):.0f}",
        "kernels_most": f"{max(shares):.1f}",
        "kernels_above_graph": f"{found.count(None)}",
        "gap_median": f"{middle:.2f}",
        "gap_quartiles": f"{low:.2f} and {high:.2f}",
        "gap_least": f"{us[0]:.2f}",
        "gap_most_but_one": f"{us[-2]:.2f}",
        "gap_most": f"{us[-1]:.2f}",
    }


def causes() -> dict[str, str]:
    """How far single leaves are from their prediction, where the page explains why."""

    def over(case: MeasuredCase, leaf: str) -> float:
        predicted_s, measured_s = case.leaf("kernel_s", leaf)
        return measured_s / predicted_s

    experts = [
        over(recorded().case(model, prefill(tokens)), "moe.experts")
        for model in (SMALL[0], LARGE[0])
        for tokens in PROMPTS
    ]
    values = [
        over(recorded().case(LARGE[1], decode(batch)), "memory.values") for batch in BATCHES[:3]
    ]
    return {
        "experts_prefill_most": f"{max(experts):.1f}",
        "values_decode": f"{median(values):.1f}",
    }


def repeats() -> dict[str, str]:
    """Recordings against other measurements of the same steps."""
    older = json.loads(REFERENCE.read_text(encoding="utf-8"))

    def shorter(model: str, batch: int) -> float:
        """By how much the recorded graph time is shorter than the older one, as a share."""
        before = float(older[f"{model}, batch {batch}"]["graph_median_us"]) * 1e-6
        return 1 - recorded().case(model, decode(batch)).value("graph_s") / before

    batches = (1, 16, 64, 256)
    sparse = [shorter(model, batch) for model in (*SMALL, *LARGE) for batch in batches]
    dense = [100 * shorter(DENSE, batch) for batch in batches]
    replayed = [recorded().case(model, decode(batch)).value("graph_s") for model, batch in REPLAYED]
    return {
        "reference_within": f"{100 * max(map(abs, sparse)):.0f} %",
        "reference_dense_less": f"{span(dense, '.0f')} %",
        "replayed_ms": listed([f"{1e3 * seconds:.2f}" for seconds in replayed]),
    }


def _errors(quantity: str, phase: Phase) -> Errors:
    rows = [case.step[quantity] for case in recorded().of_phase(phase)]
    return errors_of([ratio(row) for row in rows if row.measured is not None])


def _share(pair: tuple[str, str], batch: int, quantity: str) -> float:
    """The memory model's measured value over the MoE's."""
    moe, memory = (recorded().case(model, decode(batch)).value(quantity) for model in pair)
    return memory / moe
