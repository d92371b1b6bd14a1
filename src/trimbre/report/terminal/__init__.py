"""Tables and lines for the terminal, readable at 80 columns."""
