"""How bytes and commands get to a device; knows nothing of models."""
