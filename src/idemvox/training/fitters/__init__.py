"""How an encoder learns: by gradients, or by expectation-maximisation."""
