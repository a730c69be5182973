"""Claims of the UltraMemV2 paper and points of its reviewers, judged by computed numbers."""
