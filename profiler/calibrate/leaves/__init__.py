"""Calibration by running the leaf: leaves and regions of the reference model at random shapes."""
