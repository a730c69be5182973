"""Measures the reference models on the machine at hand, and writes recordings."""
