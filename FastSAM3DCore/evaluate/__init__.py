"""Evaluation: simulated clicks, overlap and surface scores, classical baselines, reports."""
