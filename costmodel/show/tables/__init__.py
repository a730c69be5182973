"""The tables that people read, each built once for the terminal and for Markdown."""
