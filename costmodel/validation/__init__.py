"""Recordings beside predictions: counterparts, joins on paths, errors, bounds, utilisation."""
