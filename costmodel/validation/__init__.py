"""Recordings compared with predictions: counterparts, joins on paths, errors, bounds, utilisation."""
