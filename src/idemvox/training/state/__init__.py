"""What a run saves and restores: checkpoints, progress, averages, provenance."""
