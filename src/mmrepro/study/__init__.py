"""A study resolved: its jobs, their paths, what they need."""
