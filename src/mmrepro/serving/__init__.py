"""Finished runs at work: which one, for whom, with what left out, and in which form they leave the project."""
