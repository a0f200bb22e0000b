"""The trace id of each call in a function's environment, as the runtimes' bootstraps put it there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from lambent_worker import runtimes

FOLDER: Final = Path(runtimes.__file__).parent
CALLS: Final = 100_000
LEAK_KB: Final = 10_000
"""What `setenv` would keep of them is 12,000 and more."""

PYTHON: Final = """
import json, os, subprocess
from lambent_worker.runtimes.python.bootstrap import trace_id

def put(value): trace_id.put(value)
def take_out(): del os.environ["_X_AMZN_TRACE_ID"]
def seen(): return os.environ.get("_X_AMZN_TRACE_ID")
def seen_below(): return subprocess.check_output("printf %s \\"$_X_AMZN_TRACE_ID\\"", shell=True, text=True)
def resident_kb(): return int(open("/proc/self/statm").read().split()[1]) * 4
def other(): os.environ["OTHER"] = "1"; return subprocess.check_output("printf $OTHER", shell=True, text=True)
def id_of(number): return "Root=1-65f0a1b2-%024x;Parent=53995c3f42cd8ad8;Sampled=1" % number
def said(it): print(json.dumps(it))

put("first"); found = [seen(), seen_below()]
put("the second one, which is longer"); found += [seen(), seen_below()]
take_out(); found += [seen(), seen_below()]
put("third"); found += [seen(), seen_below(), other()]
put("x" * 5000); found += [len(seen()), len(seen_below())]
put("after"); found += [seen(), seen_below()]
for number in range(20000): put(id_of(number))
before = resident_kb()
for number in range(20000, 20000 + CALLS): put(id_of(number))
said({"found": found, "grown_kb": resident_kb() - before})
"""

NODE: Final = """
import { execSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { env } from "node:process";
import { install, putTraceId } from "FOLDER/nodejs/bootstrap/trace_id.mjs";

install();
const name = "_X_AMZN_TRACE_ID";
const seen = () => (process.env[name] === env[name] ? process.env[name] ?? null : "differs");
const below = (of) => execSync(`printf %s "$${of}"`).toString();
const both = () => [seen(), below(name)];
const found = [];
putTraceId("first"); found.push(...both());
putTraceId("the second one, which is longer"); found.push(...both());
delete process.env[name]; found.push(...both());
putTraceId("third"); found.push(...both());
process.env.OTHER = 1; found.push(below("OTHER"));
putTraceId("x".repeat(5000)); found.push(...both().map((it) => it.length));
putTraceId("after"); found.push(...both());
const residentKb = () => Number(readFileSync("/proc/self/statm", "utf8").split(" ")[1]) * 4;
const idOf = (number) => `Root=1-65f0a1b2-${number.toString(16).padStart(24, "0")};Parent=53995c3f42cd8ad8`;
for (let number = 0; number < 20000; number++) putTraceId(idOf(number));
globalThis.gc();
const before = residentKb();
for (let number = 20000; number < 20000 + CALLS; number++) putTraceId(idOf(number));
globalThis.gc();
console.log(JSON.stringify({ found, grown_kb: residentKb() - before }));
"""

RUBY: Final = """
require 'json'
require 'FOLDER/ruby/bootstrap/trace_id'

NAME = '_X_AMZN_TRACE_ID'
def put(value) = LambentRuntime::TraceId.put(value)
def both = [ENV[NAME], `printf %s "$_X_AMZN_TRACE_ID"`]
def resident_kb = File.read('/proc/self/statm').split[1].to_i * 4
def id_of(number) = format('Root=1-65f0a1b2-%024x;Parent=53995c3f42cd8ad8;Sampled=1', number)
put('first'); found = both
put('the second one, which is longer'); found += both
ENV.delete(NAME); found += both
put('third'); found += both
ENV['OTHER'] = '1'; found << `printf $OTHER`
put('x' * 5000); found += both.map(&:size)
put('after'); found += both
20000.times { |number| put(id_of(number)) }
before = resident_kb
CALLS.times { |number| put(id_of(20000 + number)) }
puts JSON.generate({ found: found, grown_kb: resident_kb - before })
"""

FOUND: Final = [
    *("first", "first"),
    *("the second one, which is longer",) * 2,
    *(None, ""),
    *("third", "third", "1"),
    *(5000, 5000),
    *("after", "after"),
]


@pytest.mark.parametrize(
    ("command", "script"),
    [
        pytest.param((sys.executable, "-c"), PYTHON, id="python"),
        pytest.param(("node", "--expose-gc", "--input-type=module", "-e"), NODE, id="nodejs"),
        pytest.param(("ruby", "-e"), RUBY, id="ruby"),
    ],
)
def test_the_trace_id_of_each_call(command: tuple[str, ...], script: str) -> None:
    """The function and what it starts see the running call's, whatever the function did with the last one;
    what it puts there itself is as it was; and nothing of a hundred thousand calls stays in memory.
    """
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    script = script.replace("FOLDER", str(FOLDER)).replace("CALLS", str(CALLS))
    done = subprocess.run([*command, script], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["found"] == FOUND
    assert told["grown_kb"] < LEAK_KB
