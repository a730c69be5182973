"""What matching two models takes: sizes to vary, a common backbone, a search, the differences."""
