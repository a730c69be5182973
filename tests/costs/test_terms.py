"""The terms that the help of a card explains."""

import pytest

from costmodel.costs.quantities.terms import TERMS, terms_in
from costmodel.recordings.quantities import QUANTITIES


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("prefill launched eagerly", {"prefill", "eager"}),
        ("by calibrated kernels: decode as a CUDA graph", {"kernel", "decode", "CUDA graph"}),
        ("Roofline bound", {"roofline bound"}),
        ("largest batches", {"batch"}),
        ("inactive, an interkernel gap and a Dbatch", set()),
    ],
)
def test_a_term_counts_as_a_whole_word_or_its_form(text: str, terms: set[str]) -> None:
    assert set(terms_in(text)) == terms
    assert all(terms_in(text)[term] == TERMS[term] for term in terms)


def test_the_time_without_a_graph_is_called_eager() -> None:
    assert QUANTITIES["eager_s"].title == "eager time"
    assert "eager" in terms_in(QUANTITIES["eager_s"].title)
