"""Models read from Hugging Face `config.json` files."""
