"""The models: one file each, readable with the paper beside it; `base.py` is their contract."""
