"""Search loop: a sampler proposes candidates, the pipeline evaluates them, records are kept."""
