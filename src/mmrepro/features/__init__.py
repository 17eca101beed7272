"""Item features: what an encoder makes of images and texts, and the item graph that follows from it."""
