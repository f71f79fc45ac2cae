"""What concerns an owner as a whole."""
