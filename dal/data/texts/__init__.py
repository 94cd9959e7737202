"""Texts as they are, what becomes of them for a model, and the files that they stand in."""
