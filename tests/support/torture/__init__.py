"""The frame of the experiments: load, log, checker, what takes a protection away, and report."""
