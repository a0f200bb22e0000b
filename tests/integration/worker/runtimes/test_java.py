"""What is Java's own: the shapes of handlers, and what events become."""

import functools
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lambent_worker.channel import frame
from tests.integration.worker.api_scene import api_scene
from tests.integration.worker.scene import Scene, runtimes_here

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("java" not in runtimes_here().by_name, reason="no JDK is on this host"),
]

SOURCE = """
package shop;
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
import java.util.*;

class Order { public String name; private int n; private List<Line> lines;
  public int getN() { return n; } public void setN(int n) { this.n = n; }
  public List<Line> getLines() { return lines; } public void setLines(List<Line> l) { lines = l; } }
class Line { private Color color; private double[] sizes; private Map<String, Long> counts;
  public Color getColor() { return color; } public void setColor(Color c) { color = c; }
  public double[] getSizes() { return sizes; } public void setSizes(double[] s) { sizes = s; }
  public Map<String, Long> getCounts() { return counts; } public void setCounts(Map<String, Long> c) { counts = c; } }
enum Color { RED, GREEN }
abstract class Base<I, O> implements RequestHandler<I, O> {
  public O handleRequest(I input, Context context) { return act(input); }
  abstract O act(I input); }
public class Handlers {
  public String text(String s) { return s + "!"; }
  public int number(int n) { return n + 1; }
  public static boolean isSet(Boolean b, Context context) { return b; }
  public Order order(Order order) { order.setN(order.getN() + 1); return order; }
  public List<Integer> list(List<Integer> items) { List<Integer> r = new ArrayList<>(items); Collections.reverse(r);
    return r; }
  public byte[] bytes(byte[] b) { b[0]++; return b; }
  public Object anything(Object o) { return o; }
  public void nothing() { }
  public Pair pair(Pair p) { return new Pair(p.right(), p.left()); }
  public record Pair(String left, String right) { }
  public static class Inherits extends Base<Order, String> { String act(Order o) { return o.name; } }
  public static class Streams implements RequestStreamHandler {
    public void handleRequest(InputStream in, OutputStream out, Context c) throws IOException { in.transferTo(out); } }
  public String deep(String s) { try { return inner(); } catch (Exception e) { throw new RuntimeException("outer", e); } }
  private String inner() { throw new IllegalStateException("inner"); }
}
"""


@functools.cache
def classes() -> Mapping[str, bytes]:
    runtime = runtimes_here().files["java"][0]
    with tempfile.TemporaryDirectory(prefix="lambent-functions-") as out:
        source = Path(out, "Handlers.java")
        source.write_text(SOURCE)
        subprocess.run(["javac", "-cp", runtime, "-d", out, source], check=True, timeout=100)
        return {str(path.relative_to(out)): path.read_bytes() for path in Path(out).rglob("*.class")}


ORDER = {"name": "a", "n": 1, "lines": [{"color": "GREEN", "sizes": [1.5], "counts": {"k": 3_000_000_000}}]}


@pytest.mark.parametrize(
    ("handler", "event", "answer"),
    [
        ("::text", 'é"\n', 'é"\n!'),
        ("::number", 41, 42),
        ("::isSet", True, True),
        ("::order", {**ORDER, "unknown": [1]}, {**ORDER, "n": 2}),
        ("::list", [1, 2, 3], [3, 2, 1]),
        (
            "::anything",
            {"a": [1, 2.5, None, "\U0001f600", 10**30]},
            {"a": [1, 2.5, None, "\U0001f600", 10**30]},
        ),
        ("::bytes", "AAEC", "AQEC"),
        ("::nothing", {}, None),
        ("::pair", {"left": "a", "right": "b"}, {"left": "b", "right": "a"}),
        ("$Inherits", ORDER, "a"),
        ("$Inherits::handleRequest", ORDER, "a"),
        ("$Streams", {"a": 1}, {"a": 1}),
    ],
)
async def test_shapes_of_handlers(stage: Scene, handler: str, event: Any, answer: Any) -> None:
    """An event becomes what the handler wants, and its result becomes JSON."""
    it = await stage.started(classes(), handler=f"shop.Handlers{handler}", runtime="java", memory_mb=256)
    assert (await stage.call(it, event)).json == answer


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("shop.Nowhere::x", "java.lang.ClassNotFoundException", "Class not found: shop.Nowhere"),
        (
            "shop.Handlers::nowhere",
            "Runtime.HandlerNotFound",
            "Class shop.Handlers has no public method 'nowhere'",
        ),
        ("shop.Handlers", "Runtime.HandlerNotFound", "Class shop.Handlers does not implement"),
        ("a::b::c", "Runtime.MalformedHandlerName", "Bad handler"),
    ],
)
async def test_what_cannot_be_initialised(stage: Scene, handler: str, error_type: str, message: str) -> None:
    """Each reason is named."""
    said = await stage.failed_init(classes(), handler=handler, runtime="java", memory_mb=256)
    error = json.loads(said.error)
    assert error["errorType"] == error_type
    assert error["errorMessage"].startswith(message)


async def test_causes_and_events_that_do_not_fit(stage: Scene) -> None:
    """An error brings its cause; an event that is not what the handler wants fails its own call."""
    it = await stage.started(classes(), handler="shop.Handlers::deep", runtime="java", memory_mb=256)
    error = (await stage.call(it, "x")).json
    assert error["errorMessage"] == "outer"
    assert error["cause"]["errorType"] == "java.lang.IllegalStateException"
    assert error["cause"]["stackTrace"][0] == "shop.Handlers.inner(Handlers.java:34)"
    unfit = await stage.call(it, {"a": 1})
    assert unfit.json["errorType"] == "Runtime.UnmarshalError"
    assert unfit.json["errorMessage"].endswith('a java.lang.String cannot be made of {"a":1}')


async def test_a_parked_process_becomes_the_functions(tmp_path: Path) -> None:
    """It starts without a function, is told which one on its channel, and goes on as if started so."""
    for name, data in classes().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    runtimes = tmp_path / "runtimes"
    runtimes_here().install(runtimes)
    runtime = runtimes_here().by_name["java"]
    parkable = runtime.parkable
    assert parkable is not None
    assert (runtime.parked(parkable.memory_mb, {}), runtime.parked(128, {})) == ("java", "")
    argv = [word.replace("/var/runtime", str(runtimes)) for word in parkable.argv]
    ours, theirs = socket.socketpair()
    async with api_scene() as scene:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is forked and executed in a moment
            argv, pass_fds=[3], env={"GONE": "1"}, preexec_fn=lambda: os.dup2(theirs.fileno(), 3)
        )
        theirs.close()
        environment = {
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "LAMBENT_LAYERS_JAVA": "/nowhere",
            "_HANDLER": "shop.Handlers::text",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{scene.port}",
        }
        body = json.dumps({"environment": environment, "folder": str(tmp_path)}).encode()
        ours.sendall(frame(["specialise"], body))
        try:
            assert (await scene.hears())[0] == ["ready"]
            scene.deliver("x")
            assert await scene.hears() == (["answer", "r1"], b'"x!"')
        finally:
            process.kill()
            process.wait()
            ours.close()
