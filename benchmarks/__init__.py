"""Measurements of the Triton kernels on a GPU, against ceilings of the same run."""
