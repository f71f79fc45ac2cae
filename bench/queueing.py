"""How many turns so many workers and shards take: a closed queueing network, from measured costs.

Calls in flight go round: the agent thinks, a worker's processor works, a shard's processors work,
and the rest is waiting that no processor is busy with: the disk, the network. Mean value analysis
says how long each visit takes among the others (Reiser and Lavenberg); a station with several
servers is taken for one that is so many times as fast, and a delay (Seidmann). Every bound that
does not come from a queue is a ceiling: connections, places for turns.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Of one turn, measured; times in ms."""

    worker: float
    """CPU of the worker."""
    postgres: float
    callers: float
    """CPU of the callers, which matters where they share the machine."""
    rest: float
    """What a turn takes, alone, beyond all these: fsync, network, switches."""


@dataclass(frozen=True)
class Layout:
    workers: int = 1
    shards: int = 1
    shard_cores: float = 4
    agent_ms: float = 0
    places: int = 1_000
    """PARLEY_MAX_OPEN_CHATS."""
    pool: int = 10
    """PARLEY_DB_POOL_SIZE."""
    shared_cores: float | None = None
    """All on one machine of so many processors, callers included. None: each has a machine."""
    coordinator_ms: float = 0
    """CPU of a turn on a coordinator in front of shards, which has `shard_cores` as well."""


@dataclass(frozen=True)
class Prediction:
    turns_per_s: float
    latency_ms: float
    """Of a turn, the agent's time included."""
    limit: str
    """What is used up first, as calls become more."""


@dataclass(frozen=True)
class Station:
    name: str
    demand_ms: float
    servers: float


def predicted(costs: Costs, layout: Layout, in_flight: int) -> Prediction:
    """Return what so many calls get that are always under way."""
    stations = _stations(costs, layout)
    ceilings = _ceilings(costs, layout)
    delay_ms = costs.rest + layout.agent_ms
    turns_per_ms = _mean_values(stations, delay_ms, in_flight)
    limit, most = min(ceilings.items(), key=lambda one: one[1])
    turns_per_ms = min(turns_per_ms, most)
    return Prediction(
        turns_per_s=turns_per_ms * 1000,
        latency_ms=in_flight / turns_per_ms,
        limit=limit,
    )


def _stations(costs: Costs, layout: Layout) -> list[Station]:
    if layout.shared_cores is not None:
        all_ = costs.worker + costs.postgres + costs.callers
        return [Station("the machine", all_, layout.shared_cores)]
    stations = [
        Station("workers", costs.worker, layout.workers),
        Station("Postgres", costs.postgres, layout.shards * layout.shard_cores),
    ]
    if layout.coordinator_ms:
        stations.append(Station("coordinator", layout.coordinator_ms, layout.shard_cores))
    return stations


def _ceilings(costs: Costs, layout: Layout) -> dict[str, float]:
    """Return the most turns in a ms, by what would be used up. A worker is one event loop."""
    ceilings = {
        station.name: station.servers / station.demand_ms for station in _stations(costs, layout)
    }
    ceilings["workers"] = layout.workers / costs.worker
    held_ms = costs.postgres + costs.rest
    ceilings["connections"] = layout.workers * layout.pool / held_ms
    if layout.agent_ms:
        ceilings["places for turns"] = layout.workers * layout.places / layout.agent_ms
    return ceilings


def _mean_values(stations: list[Station], delay_ms: float, in_flight: int) -> float:
    """Return the throughput, in turns a ms, by mean value analysis."""
    fast = [station.demand_ms / station.servers for station in stations]
    delay_ms += sum(
        station.demand_ms * (1 - 1 / station.servers) for station in stations if station.servers > 1
    )
    queues = [0.0] * len(stations)
    turns_per_ms = 0.0
    for calls in range(1, in_flight + 1):
        times = [demand * (1 + queue) for demand, queue in zip(fast, queues, strict=True)]
        turns_per_ms = calls / (delay_ms + sum(times))
        queues = [turns_per_ms * time for time in times]
    return turns_per_ms
