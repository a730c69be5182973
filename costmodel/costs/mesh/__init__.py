"""Several GPUs: how a step is divided over them, and what they send each other."""
