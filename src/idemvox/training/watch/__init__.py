"""What watches a run: log, gauges, safety, forecast, dry run."""
