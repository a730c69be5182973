"""Costs of many designs at once, components that are alike costed together."""
