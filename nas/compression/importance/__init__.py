"""Channel criteria, one module each: the file is the registration."""
