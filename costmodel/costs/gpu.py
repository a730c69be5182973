"""A GPU: its datasheet, which bounds the time of a step, and its calibration, which predicts it."""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.costs.beyond_histogram import beyond, is_unknown
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown, step_time
from costmodel.costs.roofline import Ceilings
from costmodel.costs.totals import Totals
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The datasheet of a GPU and the kernel times that were measured on it, or why there are none.

    The calibration must be of this GPU; `costs.calibrations.calibrated` makes sure.
    """

    hardware: Hardware
    calibration: Curves | Unknown = NOT_ASKED

    def ceilings(self, workload: Workload) -> Ceilings:
        """Datasheet bandwidth, and the dense peak for the format of the workload's weights."""
        peak, name = self.hardware.peak_flops_per_s(workload.dtype.name)
        return Ceilings(
            hbm_bytes_per_s=self.hardware.hbm_bytes_per_s, peak_flops_per_s=peak, peak_name=name
        )

    def time(
        self, operators: Sequence[Operator], sums: Totals, workload: Workload
    ) -> StepTime | Unknown:
        """The predicted time and energy of a step, or why it is not known: see `step_time`.

        Of a grid of steps, times that a histogram cannot give are NaN.
        """
        if isinstance(self.calibration, Unknown):
            return self.calibration
        if is_unknown(sums.compulsory_bytes):
            unknown = beyond(operators, workload)
            assert unknown is not None
            return unknown
        return step_time(self.calibration, workload, operators, sums, self.ceilings(workload))
