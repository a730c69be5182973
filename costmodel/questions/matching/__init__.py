"""What matching two models takes: sizes to vary, a common trunk, a search, a TOML file."""
