"""Raw data sets: where they come from, how they are read, cleaned and split."""
