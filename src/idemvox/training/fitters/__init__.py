"""Fitters: training by gradients, or by expectation-maximisation."""
