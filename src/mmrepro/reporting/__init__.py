"""Reporting: finished runs become tables, figures, answers; files are read, never a model."""
