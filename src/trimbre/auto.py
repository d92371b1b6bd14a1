"""Importing this module lets transformers' Auto classes load Trimbre's checkpoints."""

from trimbre.models.families.registry import expose, families

for _family in families():
    expose(_family)
