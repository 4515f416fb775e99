"""What people read: results tables and pictures."""
