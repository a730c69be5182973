"""The schema of what is measured: recordings of steps and calibrations of a GPU."""
