"""Everybody who is measured, in the order of the tables."""

from typing import Final

from loadtest.peers import (
    celery_redis,
    dask_workers,
    functions_framework,
    grpc_floor,
    http_floor,
    lambda_rie,
    lambent,
    parsl_htex,
    ray_actors,
    ray_serve,
    serverless_offline,
    workerd,
)
from loadtest.peers.peer import Peer

LAMBENT: Final = lambent.PEER
"""What the others are compared with."""

PEERS: Final[tuple[Peer, ...]] = (
    ray_actors.PEER,
    ray_serve.PEER,
    dask_workers.PEER,
    celery_redis.PEER,
    parsl_htex.PEER,
    functions_framework.PEER,
    lambda_rie.PEER,
    serverless_offline.PEER,
    workerd.PEER,
    grpc_floor.PEER,
    http_floor.PEER,
)
