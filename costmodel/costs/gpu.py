"""A GPU: its datasheet, which bounds the time of a step, and its calibration, which predicts it."""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.backends import kernels_of
from costmodel.costs.beyond_histogram import beyond, is_unknown
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown, step_time
from costmodel.costs.placement import with_far_ceilings
from costmodel.costs.roofline import Ceilings, Peak
from costmodel.costs.totals import Totals
from costmodel.costs.transfer import for_step
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The datasheet of a GPU and the kernel times that were measured on it, or why there are none.

    The calibration must be of this GPU or say that it is not (`Curves.foreign`);
    `costs.calibrations.calibrated` makes sure.
    """

    hardware: Hardware
    calibration: Curves | Unknown = NOT_ASKED

    def ceilings(self, workload: Workload) -> Ceilings:
        """Datasheet bandwidth, and the dense peaks for the formats of the workload.

        Those of link and disk are there where the workload puts tables behind them.

        Raises:
            InputError: The GPU's file lacks a link or a disk that the placement needs.
        """
        default = workload.formats.default.name
        peak, name = self._peak(default, workload)
        others: dict[str, Peak] = {}
        if not workload.formats.is_one or workload.kv_dtype.name != default:
            for dtype in (*workload.formats.dtypes, workload.kv_dtype):
                if dtype.name != default and dtype.name not in others:
                    others[dtype.name] = Peak(*self._peak(dtype.name, workload))
        near = Ceilings(
            hbm_bytes_per_s=self.hardware.hbm_bytes_per_s,
            peak_flops_per_s=peak,
            peak_name=name,
            other_peaks=others,
        )
        return with_far_ceilings(near, self.hardware, workload.placement)

    def _peak(self, dtype: str, workload: Workload) -> tuple[float, str]:
        """The peak that bounds products of a format, and its name."""
        return self.hardware.peak_flops_per_s(workload.fp32_math if dtype == "fp32" else dtype)

    def time(
        self, operators: Sequence[Operator], sums: Totals, workload: Workload, step: Step
    ) -> StepTime | Unknown:
        """The predicted time and energy of a step, or why it is not known: see `step_time`.

        `step` is that of the workload, or a grid of its steps: times that a histogram cannot give
        are NaN there.
        """
        curves = for_step(self.calibration, self.hardware, workload)
        if isinstance(curves, Unknown):
            return curves
        if is_unknown(sums.compulsory_bytes) or is_unknown(sums.link_bytes):
            unknown = beyond(operators, workload)
            assert unknown is not None
            return unknown
        kernels = kernels_of(workload.backend, operators, step)
        ceilings = self.ceilings(workload)
        return step_time(curves, workload, operators, sums, ceilings, kernels=kernels)
