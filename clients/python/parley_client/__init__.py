"""Parley for callers."""
