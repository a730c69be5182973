"""Mutants that compute the same as the original, each with the reason: no test can notice them."""

EQUIVALENT: dict[tuple[str, str, str, str], str] = {}
"""By file, function, the piece of source, and what took its place; as `tests.mutation` prints."""
