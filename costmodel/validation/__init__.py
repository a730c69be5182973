"""Recordings compared with predictions: counterparts, the join, errors, bounds, utilisation."""
