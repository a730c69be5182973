"""The backend `fused`: decode steps of a reference model as chains of few Triton kernels."""
