"""What runs say of themselves: to people on the terminal, in model cards and in comparisons."""
