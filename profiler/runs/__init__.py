"""What each kind of run measures of a case."""
