"""``python -m loopback_server``: serve until the standard input is closed."""

from __future__ import annotations

import argparse
import sys

from loopback_server import FAULTS, FaultPlan, LoopbackServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--latency", type=float, default=0.0)
parser.add_argument("--fault-rate", type=float, default=0.0)
parser.add_argument("--keep", action="store_true")
arguments = parser.parse_args()
with LoopbackServer(
    latency=arguments.latency,
    faults=FaultPlan(arguments.fault_rate, FAULTS),
    keep=arguments.keep,
    port=arguments.port,
) as server:
    print(server.url, flush=True)
    sys.stdin.read()
