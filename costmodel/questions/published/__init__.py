"""Numbers that others published or that follow by hand, and what the cost model makes of them."""
