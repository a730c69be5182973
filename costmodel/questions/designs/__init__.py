"""Costs of many designs at once; layers that several designs share are costed once."""
