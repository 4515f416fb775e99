"""Parts that several frameworks share: heads and teachers."""
