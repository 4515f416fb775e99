"""Watching a run: log, gauges, safety, forecast, dry run."""
