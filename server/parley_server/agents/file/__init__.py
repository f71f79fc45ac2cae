"""The agents file: TOML that names agents, their tools and their limits."""
