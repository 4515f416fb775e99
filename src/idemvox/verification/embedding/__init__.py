"""Parts of :mod:`idemvox.verification.embed`: what is embedded, how, and where embeddings are kept."""
