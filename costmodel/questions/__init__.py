"""What a user asks: compare, sweep, request, match, published numbers."""
