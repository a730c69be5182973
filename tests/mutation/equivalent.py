"""Mutants that compute the same as the original, each with the reason: no test can notice them."""

EQUIVALENT: dict[tuple[str, str, str, str], str] = {
    ("costmodel/routing/union.py", "_segments", "last > rows_total", "(last >= rows_total)"): (
        "a window that ends where the ring does is opened and closed again at row 0"
    ),
    (
        *("costmodel/routing/zipf.py", "_window"),
        *("state(u)[1] > IMPROBABLE", "(state(u)[1] >= IMPROBABLE)"),
    ): "a search for where a continuous function passes 30: it is 30 at no float that is met",
    (
        *("costmodel/validation/repeatability.py", "count_agreements"),
        "_measured_twice(first, again, run, quantity)",
        "(_measured_twice(again, first, run, quantity))",
    ): "counts of two runs are held equal, whichever stands first",
    (
        *("costmodel/validation/recorded_routing.py", "RecordedRouting.expected_distinct"),
        *("1", "(0)"),
    ): "the default of an argument that a recorded number does not depend on",
    ("costmodel/routing/zipf.py", "", "64", "(63)"): (
        "how many ranks are summed before bins begin: either sum is within the stated error"
    ),
}
"""By file, function, the piece of source, and what took its place; as `tests.mutation` prints."""
