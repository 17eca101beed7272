"""The tables of a study, one file each: the frame that becomes csv, and what readers see."""
