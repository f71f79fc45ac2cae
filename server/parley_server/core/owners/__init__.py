"""What concerns an owner as a whole: what turns used, erasure and retention."""
