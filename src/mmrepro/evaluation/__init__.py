"""Evaluation: ranked lists, metrics of each user, significance."""
