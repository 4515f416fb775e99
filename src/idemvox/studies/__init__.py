"""Studies: jobs that train and score, the SSPS study, sweeps, and the demonstration."""
