"""NNI's pruners and quantisers behind one adapter."""
