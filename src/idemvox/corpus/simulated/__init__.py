"""Simulated recordings and synthetic voices."""
