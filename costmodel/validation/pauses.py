"""The pause between two kernels of a CUDA graph: what separates kernel times from graph times.

A calibration's points are replays of graphs, so a predicted time holds the pause of each launch,
while a trace holds the durations of kernels alone. Kernels are compared with kernels: a predicted
time less its pauses.

Measured on an H200: the time that a replay takes for each of its kernels, less the kernel's
duration by CUPTI, is 0.27 to 0.35 us in 16 chains of one or of many kinds of kernel whose operands
do not stay in L2 (no model's step is among them). Kernels launched by programmatic dependent
launch, as those of `fused` are, start while the one before them ends: that took 0.36 us off a small
kernel, the whole pause.
"""

from typing import TYPE_CHECKING

from costmodel.layers.numbers import Number, larger

if TYPE_CHECKING:
    from costmodel.costs.kernel_times import Curves

PAUSE_S = 0.31e-6
PAUSES_S = {"torch": PAUSE_S, "fused": 0.0}  # by backend


def without_pauses(
    graph_s: Number, launches: Number | None, backend: str, floor_s: Number
) -> Number:
    """What kernels take without the pauses between them, of their time in a graph, in seconds.

    graph_s - launches x pause, at least the roofline bound of the kernels, which holds no pause.
    """
    pause_s = PAUSES_S[backend]
    if not pause_s or launches is None:
        return graph_s
    return larger(graph_s - launches * pause_s, floor_s)


def empty_kernel_s(curves: "Curves") -> float:
    """A kernel that does nothing, in seconds: a launch of the calibration less its pause.

    The calibration times a graph of null kernels, and so the launch, the empty kernel and the pause
    together. Every kernel takes this much whatever it does.
    """
    return max(curves.graph_s - PAUSE_S, 0.0)
