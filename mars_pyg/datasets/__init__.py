"""Datasets: Amazon reviews."""

from mars_pyg.datasets.amazon import AmazonFactorDataset

__all__ = ["AmazonFactorDataset"]
