"""Commands around the workflow: what is there, what is left, what is versioned, tracked, published."""
