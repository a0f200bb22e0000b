"""What etcd holds of functions and layers is read by releases before and after the one that wrote it."""

import msgpack

from lambent_proto.definition import Definition, LayerVersion, PublishedLayer
from lambent_proto.ids import FunctionName

LAYER = LayerVersion(name="deps", version=3, code_sha256="ab", code_size=10, unzipped_size=20)
FUNCTION = Definition(
    name=FunctionName("f"),
    revision="r1",
    runtime="python3.11",
    handler="a.b",
    code_sha256="cd",
    code_size=1,
    layers=(LAYER,),
    tmp_mb=1024,
    network=True,
    snapstart=True,
    role="r",
    tags={"a": "b"},
)
PUBLISHED = PublishedLayer(layer=LAYER, description="d", compatible_runtimes=("python3.11",), created_at=1.5)


def test_what_is_written_is_read() -> None:
    """Layers in their order and all."""
    assert Definition.decode(FUNCTION.encode()) == FUNCTION
    assert PublishedLayer.decode(PUBLISHED.encode()) == PUBLISHED


def test_a_newer_release_has_written_more() -> None:
    """What is not known is left out, in layers too."""
    function, published = msgpack.unpackb(FUNCTION.encode()), msgpack.unpackb(PUBLISHED.encode())
    for fields in (function, function["layers"][0], published, published["layer"]):
        fields["colour"] = "blue"
    assert Definition.decode(msgpack.packb(function)) == FUNCTION
    assert PublishedLayer.decode(msgpack.packb(published)) == PUBLISHED


def test_an_older_release_has_written_less() -> None:
    """A function from before there were layers has none, and Lambda's `/tmp`."""
    fields = msgpack.unpackb(FUNCTION.encode())
    for later in ("layers", "tmp_mb", "network", "snapstart", "unzipped_size", "role", "tags"):
        del fields[later]
    function = Definition.decode(msgpack.packb(fields))
    assert (function.layers, function.tmp_mb, function.network, function.snapstart) == ((), 512, False, False)
    assert (function.role, function.tags) == ("", {})
