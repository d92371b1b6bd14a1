"""Markdown: model cards and comparisons of runs."""
