"""mmrepro from Python: the same code, seeds and folders as the workflow."""
