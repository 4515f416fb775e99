"""Packs: a corpus as 16-bit samples in a few large files."""
