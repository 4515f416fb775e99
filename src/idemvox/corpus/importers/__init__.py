"""Public corpora as they are published, one module each; each ends in a checked manifest."""
