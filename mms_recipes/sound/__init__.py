"""Audio as it lies in files, read to its true end and to the levels that models and 16-bit files need."""
