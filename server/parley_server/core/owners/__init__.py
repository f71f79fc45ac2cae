"""What concerns an owner as a whole: erasure and retention."""
