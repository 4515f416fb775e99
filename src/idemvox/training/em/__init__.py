"""Fitting by expectation-maximisation: i-vectors."""
