"""How every number comes about: its formula, the values put in, the result and the source."""
