"""Results tables and pictures."""
