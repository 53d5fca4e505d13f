"""Hardware profiles: sourced facts about devices, one module for each family, ending with `PROFILES`."""
