"""Checks of audio before training: the scan and the doctor."""
