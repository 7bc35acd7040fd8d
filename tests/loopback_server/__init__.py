"""An OpenAI-compatible server on the loopback, for tests, benchmarks and examples.

It answers by rule from the texts and pictures that it is shown, keeps count of what it
has answered, and can be told to fail in many ways.
"""

from loopback_server.app import LoopbackServer
from loopback_server.faults import FAULTS, FaultPlan

__all__ = ["FAULTS", "FaultPlan", "LoopbackServer"]
