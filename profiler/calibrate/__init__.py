"""Calibration of a GPU: measured launch costs, kernel times and power, for the predictor."""
