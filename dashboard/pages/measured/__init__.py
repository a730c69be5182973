"""The page Measured."""
