"""Importers of public corpora, one module each; each writes a checked manifest."""
