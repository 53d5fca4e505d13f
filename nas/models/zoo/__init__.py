"""Published nets, rebuilt from their specifications: one module each, ending with `MODEL`."""
