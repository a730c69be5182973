"""How experts and table rows are chosen, and how many distinct ones a step touches."""
