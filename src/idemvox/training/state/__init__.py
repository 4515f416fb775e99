"""Saving and restoring a run: checkpoints, progress, averages, provenance."""
