"""Other toolkits' weights; one module for each toolkit turns its layout into one of our encoders."""
