"""The page of a study: verdicts, tables, pictures, what users are offered, and where every number comes from."""
