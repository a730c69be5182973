"""The page `Is it true?`."""
