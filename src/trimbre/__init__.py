"""Trimbre makes speech-recognition models smaller and faster by structured pruning."""
