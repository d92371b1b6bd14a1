"""Recognisers of other toolkits, made into directories that transformers reads."""
