"""Training: the data engine, interactive training and layer-wise progressive distillation."""
