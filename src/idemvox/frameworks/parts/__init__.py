"""What several frameworks share: heads and teachers."""
