"""Datasets of users, items and factor values."""

from mars_pyg.datasets.amazon import AmazonFactorDataset
from mars_pyg.datasets.own_catalogue import FactorDataset
from mars_pyg.datasets.synthetic import SyntheticFactorDataset

__all__ = ["AmazonFactorDataset", "FactorDataset", "SyntheticFactorDataset"]
