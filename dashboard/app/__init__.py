"""What all pages share: the entry, the sidebar and its values, cards, figures, recordings."""
