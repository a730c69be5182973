"""Cost reports to keep: one value, seen as HTML, Markdown, spreadsheets, columns or JSON."""
