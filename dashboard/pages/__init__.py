"""One folder for each page: the script that draws it and what it shows."""
