"""The turn machine: claims, waiting, and what a turn may do next."""
