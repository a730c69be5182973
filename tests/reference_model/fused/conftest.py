"""Fused steps run on Triton's interpreter where there is no GPU, like the kernels in them."""

from tests.reference_model.kernels.conftest import collect_ignore_glob, quiet_nan

__all__ = ["collect_ignore_glob", "quiet_nan"]
