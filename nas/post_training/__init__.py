"""Post-training work on one model without a search: quantisation, pruning with a short fine-tuning, sensitivity."""
