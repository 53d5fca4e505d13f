"""Hardware profiles: facts about each device, one module a family, each ending with `PROFILES`."""
