"""Zero-cost proxies: what an untrained net shows of itself within a second. One file each, ending with `PROXY`."""
