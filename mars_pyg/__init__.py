"""Explainable recommendation with LLM-named item factors, in PyTorch Geometric."""
