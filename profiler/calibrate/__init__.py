"""Measures a GPU's ceilings and operator curves, once, for the predictor to read."""
