"""A profile: its plan, the worker processes that measure it, and the recordings that they fill."""
