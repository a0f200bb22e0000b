"""The key layout in etcd: a contract between the parts. Values are msgpack maps, unless said otherwise.

Nothing here is written per invocation, but for those of schedules.
`docs/etcd.md` gives the write rate of each key.
"""

from typing import Final, NamedTuple

from lambent_proto.ids import FrontendId, FunctionName, NodeId

FUNCTIONS: Final = "/lambent/fn/"
"""All that a function is, so that one watch hears of it in the order in which it was changed.

`NAME` is its definition, `NAME/version/N` a published one, which never changes, `NAME/alias/A` an alias,
`NAME/provisioned/Q` how many instances a version or alias has ready, a decimal number, and
`NAME/event-invoke/Q` what is configured for its asynchronous calls. `NAME/policy/Q` and `NAME/url/Q` are the
resource policy and the URL of a version or alias, `NAME/policy/` and `NAME/url/` the function's own. Compared
and swapped on their mod_revision, written on deploy only.
"""

VERSION_NUMBERS: Final = "/lambent/version-number/"
"""One for each function that ever had a version: the last number given, decimal. It is never deleted."""

LAYERS: Final = "/lambent/layer/"
"""One for each layer that ever had a version: the last number given, decimal. It is never deleted."""

LAYER_VERSIONS: Final = "/lambent/layer-version/"
"""One for each version of a layer: written once, by the transaction that raises the layer's number."""

NODES: Final = "/lambent/node/"
"""One registration a worker, under its lease: its address and its capacity. Those of the first shard's."""

FRONTENDS: Final = "/lambent/frontend/"
"""One for each frontend, by its id, under its lease: the names of its folders for triggers, with commas."""

FRONTEND_ADDRESSES: Final = "/lambent/frontend-address/"
"""One for each frontend, by its id, under its lease: `host:port` at which the other frontends ask it."""

ALL_OF_FRONTENDS: Final = "/lambent/frontend"
"""Prefix of both."""

QUEUE_CLAIMS: Final = "/lambent/queue-claim/"
"""One for each queue of events in JetStream, by the id of the frontend that took them, under the lease of the
one that runs them: that frontend's id."""

CONCURRENCY: Final = "/lambent/concurrency"
"""How many instances may run at one time in the whole fleet; absent: the default. A decimal number."""

DRAINS: Final = "/lambent/drain/"
"""One for each node, by its name, that is to be emptied; the value says nothing. It outlives the worker."""

ACCESS_KEYS: Final = "/lambent/access-key/"
"""One for each access key, by its id: its secret and what it allows."""

DOWNLOAD_SECRET: Final = "/lambent/download-secret"
"""What frontends sign the addresses with at which packages are downloaded: bytes, written by whoever starts
first, and never again. Without it all addresses are void once the frontends are started anew."""

SCHEDULES: Final = "/lambent/schedule/"
"""One for each schedule, by its name. Compared and swapped on its mod_revision."""

FIRED: Final = "/lambent/schedule-fired/"
"""How far the schedule of this name has come. Compared and swapped by the frontends: whoever succeeds fires.
It goes with the schedule."""

ALL_OF_SCHEDULES: Final = "/lambent/schedule"
"""Prefix of both, so that one watch hears of them in the order in which they were changed."""

TRIGGERS: Final = "/lambent/trigger/"
"""One for each trigger, by its id: what a function is called with, and how. Compared and swapped."""

TRIGGER_SOURCES: Final = "/lambent/trigger-source/"
"""One for each trigger, by a digest of its function and source: its id, so that no two have both in common.
It is written and deleted with the trigger."""

TRIGGER_CLAIMS: Final = "/lambent/trigger-claim/"
"""One for each trigger, by its id, under the lease of the frontend that has it: the frontend's id. Whatever
is written on a trigger's behalf is fenced by it."""

TRIGGER_STATUSES: Final = "/lambent/trigger-status/"
"""One for each trigger, by its id: what its frontend says of it. Written when it changes, and no oftener than
every few seconds."""

TRIGGER_PLACES: Final = "/lambent/trigger-place/"
"""Under `ID/` one for each shard of a stream: up to where all is done with. Written once a second at most."""

TRIGGER_FAILURES: Final = "/lambent/trigger-failures/"
"""Under `ID/` one for each line of a source: how often what fails there has failed, where the source does not
count. Written when something fails, once a second at most."""

LEADER: Final = "/lambent/leader/placement"
"""The leading placement's address and epoch, under its lease. That of the first shard."""

EPOCH: Final = "/lambent/epoch"
"""How often leadership has changed hands; raised in the transaction that takes it. A decimal number.
That of the first shard."""

CLUSTER: Final = "/lambent/etcd-cluster"
"""In which cluster of etcd the epoch was raised last, by etcd's own number, decimal: another one
is a backup, restored. Written with the epoch. That of the first shard."""

SHARDS: Final = "/lambent/shards"
"""How many shards the fleet has, a decimal number. Written by whoever starts first, and never again."""

OTHER_SHARDS: Final = "/lambent/shard/"
"""Under `NUMBER/` what a shard after the first has for itself under leases: its nodes and its leader."""

UNDER_LEASES: Final = (NODES, LEADER, ALL_OF_FRONTENDS, TRIGGER_CLAIMS, QUEUE_CLAIMS, OTHER_SHARDS)
"""Prefixes of what is there while parts of the fleet run, and not much longer."""


def function(name: FunctionName) -> str:
    return FUNCTIONS + name


def of_function(name: FunctionName) -> str:
    """Prefix of all that belongs to a function but its definition; a function's name has no slash."""
    return f"{FUNCTIONS}{name}/"


def version(name: FunctionName, number: str) -> str:
    return f"{of_function(name)}version/{number}"


def alias(name: FunctionName, alias_name: str) -> str:
    return f"{of_function(name)}alias/{alias_name}"


def provisioned(name: FunctionName, qualifier: str) -> str:
    return f"{of_function(name)}provisioned/{qualifier}"


def policy(name: FunctionName, qualifier: str) -> str:
    return f"{of_function(name)}policy/{qualifier}"


def url(name: FunctionName, qualifier: str) -> str:
    return f"{of_function(name)}url/{qualifier}"


def event_invoke(name: FunctionName, qualifier: str) -> str:
    return f"{of_function(name)}event-invoke/{qualifier}"


def version_number(name: FunctionName) -> str:
    return VERSION_NUMBERS + name


def layer(name: str) -> str:
    return LAYERS + name


def layer_versions(name: str) -> str:
    """Prefix of all versions of a layer; a layer's name has no slash."""
    return f"{LAYER_VERSIONS}{name}/"


def layer_version(name: str, version: int) -> str:
    return f"{layer_versions(name)}{version}"


def nodes(shard: int) -> str:
    """Prefix of the registrations of a shard's workers."""
    return f"{OTHER_SHARDS}{shard}/node/" if shard else NODES


def node(shard: int, node_id: NodeId) -> str:
    return nodes(shard) + node_id


def leader(shard: int) -> str:
    return f"{OTHER_SHARDS}{shard}/leader" if shard else LEADER


def epoch(shard: int) -> str:
    """It outlives the parts."""
    return f"{EPOCH}/{shard}" if shard else EPOCH


def cluster(shard: int) -> str:
    return f"{CLUSTER}/{shard}" if shard else CLUSTER


def frontend(frontend_id: FrontendId) -> str:
    return FRONTENDS + frontend_id


def frontend_address(frontend_id: FrontendId) -> str:
    return FRONTEND_ADDRESSES + frontend_id


def frontend_of_address_key(key: str) -> FrontendId:
    return FrontendId(key.removeprefix(FRONTEND_ADDRESSES))


def queue_claim(queue: str) -> str:
    return QUEUE_CLAIMS + queue


def trigger(trigger_id: str) -> str:
    return TRIGGERS + trigger_id


def trigger_source(digest: str) -> str:
    return TRIGGER_SOURCES + digest


def trigger_claim(trigger_id: str) -> str:
    return TRIGGER_CLAIMS + trigger_id


def trigger_status(trigger_id: str) -> str:
    return TRIGGER_STATUSES + trigger_id


def trigger_places(trigger_id: str) -> str:
    """Prefix of the places of all its shards."""
    return f"{TRIGGER_PLACES}{trigger_id}/"


def trigger_failures(trigger_id: str) -> str:
    """Prefix of those of all its lines."""
    return f"{TRIGGER_FAILURES}{trigger_id}/"


def access_key(key_id: str) -> str:
    return ACCESS_KEYS + key_id


def id_of_access_key(key: str) -> str:
    return key.removeprefix(ACCESS_KEYS)


def schedule(name: str) -> str:
    return SCHEDULES + name


def fired(schedule_name: str) -> str:
    return FIRED + schedule_name


def drain(node_name: str) -> str:
    return DRAINS + node_name


def drained_of_key(key: str) -> str:
    """The node's name."""
    return key.removeprefix(DRAINS)


class OfFunction(NamedTuple):
    """What a key under FUNCTIONS stands for."""

    function: FunctionName
    kind: str
    """`latest`, `version`, `alias`, `provisioned`, `policy`, `url` or `event-invoke`; others are a newer
    release's."""
    name: str
    """The version's number, the alias's name, the qualifier; empty for `latest`, and where there is none."""


def of_function_key(key: str) -> OfFunction:
    function, _, rest = key.removeprefix(FUNCTIONS).partition("/")
    kind, _, name = rest.partition("/")
    return OfFunction(FunctionName(function), kind or "latest", name)


def node_of_key(key: str) -> NodeId:
    """Of a worker in any shard; a node's id has no slash."""
    return NodeId(key.rpartition("/")[2])


def package_name(sha256: str) -> str:
    """Name of a package's ZIP in the package store, by its hex SHA-256."""
    return f"{sha256}.zip"
