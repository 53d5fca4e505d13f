"""How a net is made smaller: one module per compressor, each ending with `COMPRESSOR`."""
