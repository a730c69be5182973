"""The page Tradeoffs."""
