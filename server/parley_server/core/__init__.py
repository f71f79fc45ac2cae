"""The product: what a turn is and how it is run. Imports the standard library and itself only."""
