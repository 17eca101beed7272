"""AlignRec's first stage, inter-content alignment: the multimodal encoder, what it reads, and what it learns from."""
