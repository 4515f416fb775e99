"""Checks of audio before it is learnt from: what a scan finds, and the doctor."""
