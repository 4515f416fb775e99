"""Pseudo-speakers: labels that a model gives a corpus by clustering its embeddings."""
