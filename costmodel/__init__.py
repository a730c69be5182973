"""sparsecost's cost model: what one step of a language model costs, operator by operator.

Notation, used in every formula of this package:

    B  sequences                         E  experts of a layer
    T  new tokens of a sequence          k  experts a token chooses
    S  cached tokens of a sequence       I  expert width
    N  tokens of the step, B T           n  product keys per side
    L  layers                            m  table rows read per token and head (knn, TopM)
    D  hidden size                       Dk key width per side
    V  vocabulary                        Dv value width
    H  query heads (or memory heads)     Dp pre-value width
    K  key-value heads                   r  Tucker rank
    d  head size                         c  Tucker cores
    F  FFN width                         q  queries of a token: 1, or one a Tucker rank
    W  attention window                  t  value expansion (t^2 groups of values)
"""

__version__: str


def __getattr__(name: str) -> str:
    """The version, looked up when it is first asked for: that takes a tenth of a second."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    found = globals()[name] = version("sparsecost")
    return found
