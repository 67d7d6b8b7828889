"""Published rates as causes. Knows figures and their sources.

Llama 3: "The Llama 3 Herd of Models", table 5, 16,384 GPUs (2,048 nodes) in 54 days: 419 unplanned interruptions by
cause, and 47 planned. Repair times are not published there. What breaks in the chassis is taken to be away for a day
and what a restart mends for no time: assumptions, marked as such in docs/simulator.md.

Meta's research clusters: "Revisiting Reliability in Large-Scale Machine Learning Research Clusters", arXiv 2410.21680:
6.50 (RSC-1) and 2.34 (RSC-2) failures for 1,000 node-days.
"""

from __future__ import annotations

from simulator.failures.causes import Cause, Failures
from simulator.failures.distributions import Duration

LLAMA3_NODES = 2048
LLAMA3_DAYS = 54.0
LLAMA3_UNPLANNED = 419
_HARDWARE = {
    "faulty GPU": 148, "GPU HBM3 memory": 72, "GPU SRAM memory": 19, "GPU system processor": 17,
    "network interface card": 7, "GPU thermal": 6, "SSD": 3, "power supply": 3, "server chassis": 2, "IO expansion": 2,
    "CPU": 2, "system memory": 2, "network switch or cable": 35, "silent data corruption": 6,
}  # fmt: skip
_PROCESS = {"software bug": 54, "dependency": 2}
_HANGS = {"NCCL watchdog timeout": 7}
_UNPLANNED_MAINTENANCE = 32
_PLANNED = 47
_A_DAY = Duration(mean_s=86_400.0)


def llama3_causes(nodes: int = LLAMA3_NODES) -> tuple[Cause, ...]:
    """Table 5 as causes for each node, at the rates of 2,048 nodes whatever the size of the cluster simulated."""

    def rate_h(count: float) -> float:
        return nodes * LLAMA3_DAYS * 24 / count

    hardware = [Cause(name=name, mtbf_h=rate_h(n), repair=_A_DAY) for name, n in _HARDWARE.items()]
    process = [Cause(name=name, mtbf_h=rate_h(n), host_lost=False) for name, n in _PROCESS.items()]
    hangs = [Cause(name=name, effect="hang", mtbf_h=rate_h(n), host_lost=False) for name, n in _HANGS.items()]
    maintenance = Cause(name="host maintenance", mtbf_h=rate_h(_UNPLANNED_MAINTENANCE), repair=_A_DAY)
    planned = Cause(
        name="planned", effect="preempt", mtbf_h=rate_h(_PLANNED), notice_s=3600.0, planned=True, host_lost=False
    )
    return (*hardware, *process, *hangs, maintenance, planned)


def meta_causes(per_1000_node_days: float) -> tuple[Cause, ...]:
    """One cause at the rate of a whole cluster."""
    return (Cause(name="node", per_1000_node_days=per_1000_node_days, repair=_A_DAY),)


def all_causes(failures: Failures) -> tuple[Cause, ...]:
    """The causes of the preset and those of one's own."""
    match failures.preset:
        case "llama3":
            preset = llama3_causes(failures.nodes_of_rates or LLAMA3_NODES)
        case "meta_rsc1":
            preset = meta_causes(6.50)
        case "meta_rsc2":
            preset = meta_causes(2.34)
        case "none":
            preset = ()
    return (*preset, *failures.causes)
