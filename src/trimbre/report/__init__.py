"""Reports for people: tables in the terminal, Markdown in model cards and comparisons."""
