"""The popularity of experts and table rows, and how many distinct ones a step touches."""
