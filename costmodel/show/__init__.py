"""Answers as JSON documents, tables, text and files."""
