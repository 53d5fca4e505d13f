"""Face data sets: one module each; the file name is the word after `--dataset`."""
