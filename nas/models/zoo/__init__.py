"""Published networks, one module each: the file is the registration."""
