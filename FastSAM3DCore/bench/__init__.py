"""Measurements behind `fastsam3d bench`: times, memory and correctness, all in one run on one machine."""
