"""What a result comes from: files written whole, hashes, fingerprints of code, the record of a run."""
