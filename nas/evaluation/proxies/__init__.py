"""Zero-cost proxies, one module each: the file is the registration."""
