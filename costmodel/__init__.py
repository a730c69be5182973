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

from importlib.metadata import version

__version__ = version("sparsecost")
