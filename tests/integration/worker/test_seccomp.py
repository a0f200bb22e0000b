"""The system call filter, loaded into real processes: what is refused, and what still runs."""

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambent_worker.sandbox.seccomp import program

MACHINE = platform.machine()

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason=f"there is no filter for {MACHINE}"),
]

REFUSED = """
    mount 165 40; umount2 166 39; fsopen 430 430; fsmount 432 432; open_tree 428 428; move_mount 429 429;
    mount_setattr 442 442; fspick 433 433; fsconfig 431 431; open_tree_attr 467 467; statmount 457 457;
    listmount 458 458; pivot_root 155 41; chroot 161 51; unshare 272 97; setns 308 268; ptrace 101 117;
    process_vm_readv 310 270; process_vm_writev 311 271; process_madvise 440 440; kcmp 312 272; bpf 321 280;
    io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427; keyctl 250 219;
    add_key 248 217; request_key 249 218; userfaultfd 323 282; perf_event_open 298 241; kexec_load 246 104;
    kexec_file_load 320 294; init_module 175 105; finit_module 313 273; delete_module 176 106;
    clock_settime 227 112; clock_adjtime 305 266; adjtimex 159 171; settimeofday 164 170; sethostname 170 161;
    setdomainname 171 162; swapon 167 224; swapoff 168 225; reboot 169 142; quotactl 179 60;
    quotactl_fd 443 443; open_by_handle_at 304 265; name_to_handle_at 303 264; iopl 172 -; ioperm 173 -;
    modify_ldt 154 -; pidfd_getfd 438 438; memfd_secret 447 447; vhangup 153 58; acct 163 89; syslog 103 116;
    fanotify_init 300 262; move_pages 279 239; migrate_pages 256 238; set_mempolicy 238 237; mbind 237 235;
    remap_file_pages 216 234; lookup_dcookie 212 18
"""

CALL = """
import ctypes, json, sys
numbers = json.loads(sys.argv[1])
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
call.argtypes = (ctypes.c_long,) + (ctypes.c_ulong,) * 6
def tried(number, *arguments):
    ctypes.set_errno(0)
    result = call(number, *arguments, *(0,) * (6 - len(arguments)))
    return ctypes.get_errno() if result < 0 else 0
print(json.dumps([tried(*number) for number in numbers]))
"""

# Loads the filter as the fork server does, then becomes another program.
LOAD = """
import ctypes, os, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4
code = open(sys.argv[1], "rb").read()
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
it = Program(len(code) // 8, code)
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.addressof(it), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "program.bpf"
    path.write_bytes(program(MACHINE))
    return path


def filtered(code: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOAD, code, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        cwd=code.parent,
        env=os.environ | environment,
    )


def errnos(code: Path, *calls: tuple[int, ...]) -> list[int]:
    done = filtered(code, sys.executable, "-I", "-S", "-c", CALL, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    answer: list[int] = json.loads(done.stdout)
    return answer


def python(code: Path, text: str) -> str:
    done = filtered(code, sys.executable, "-I", "-c", text)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def here(calls: str) -> dict[str, int]:
    column = 1 if MACHINE == "x86_64" else 2
    fields = [call.split() for call in calls.split(";")]
    return {each[0]: int(each[column]) for each in fields if each[column] != "-"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused nothing by the kernel itself")
def test_dangerous_calls_are_refused_even_to_root(code: Path) -> None:
    """With EPERM, before the kernel looks at one argument: without the filter these say EINVAL or EFAULT."""
    calls = here(REFUSED)
    answers = errnos(code, *((number, *(0,) * 6) for number in calls.values()))
    assert dict(zip(calls, answers, strict=True)) == dict.fromkeys(calls, errno.EPERM)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make namespaces of every kind")
def test_no_namespace_is_made(code: Path) -> None:
    """Not by clone with any flag; clone3, whose flags no filter can read, does not exist; threads do."""
    clone = here("clone 56 220; clone3 435 435")
    flags = [0x20000, *(1 << bit for bit in range(25, 31))]
    answers = errnos(code, *((clone["clone"], flag | 17) for flag in flags), (clone["clone3"], 0, 0))
    assert answers == [errno.EPERM] * len(flags) + [errno.ENOSYS]
    assert (
        python(code, "import threading as t; x = t.Thread(target=print, args=(1,)); x.start(); x.join()")
        == "1"
    )


def test_sockets_are_of_the_families_that_functions_need(code: Path) -> None:
    """The list of addresses too; not packets, kernel crypto, virtual machines, other netlink."""
    text = """
import socket
def family(number, type=socket.SOCK_STREAM, protocol=0):
    try: socket.socket(number, type, protocol).close()
    except PermissionError: return "-"
    except OSError as error: return "?"
    return "+"
print(*map(family, (1, 2, 10)), family(16, 3, 0), family(16, 3, 15), *map(family, (17, 38, 40, 31, 29)))
a, b = socket.socketpair()
"""
    answer = python(code, text).split()
    assert answer[:2] == ["+", "+"]
    assert answer[2] in "+?", "a host may have no IPv6"
    assert answer[3:] == ["+", "-", "-", "-", "-", "-", "-"]


def test_nothing_is_typed_into_the_terminal(code: Path) -> None:
    """TIOCSTI: what it types, the shell behind would run."""
    text = """
import fcntl, os, pty, termios
main, end = pty.openpty()
print(os.get_terminal_size(end).columns)
try: fcntl.ioctl(end, termios.TIOCSTI, b"x")
except PermissionError: print("refused")
"""
    assert python(code, text).split() == ["0", "refused"]


def test_protections_of_memory_stay_on(code: Path) -> None:
    """ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC are refused, asking is not."""
    personality = here("personality 135 92")["personality"]
    calls = ((personality, flag) for flag in (0xFFFFFFFF, 0x0040000, 0x0400000))
    assert errnos(code, *calls) == [0, errno.EPERM, errno.EPERM]


PROGRAMS = {
    "sh": "echo ok | { read it; mkfifo f; (sleep 0; echo $it > f) & cat f; wait; }",
    "bash": "cat <(echo ok)",
    "python3": """
import asyncio, concurrent.futures, ctypes, multiprocessing, os, socket, sqlite3, ssl, subprocess, tempfile
import threading, urllib.request
assert subprocess.run(["true"]).returncode == 0
assert os.system("true") == 0
with concurrent.futures.ThreadPoolExecutor(2) as pool: assert sum(pool.map(int, "123")) == 6
a, b = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=b.send, args=(1,)); process.start()
assert a.recv() == 1; process.join()
with tempfile.TemporaryDirectory() as folder: sqlite3.connect(folder + "/x").execute("create table t (a)")
async def run(): assert await (await asyncio.create_subprocess_exec("true")).wait() == 0
asyncio.run(run())
socket.getaddrinfo("localhost", 80)
ssl.create_default_context(); os.getrandom(8); os.sched_getaffinity(0)
print("ok")
""",
    "node": """
const { Worker } = require("worker_threads"), fs = require("fs"), http = require("http");
const { execSync } = require("child_process"), os = require("os");
execSync("true"); os.networkInterfaces(); os.cpus();
fs.mkdtempSync("x"); fs.writeFileSync("x.txt", "1"); fs.watch("x.txt").close();
const server = http.createServer((q, s) => s.end("ok")).listen(0, "127.0.0.1", () =>
  http.get({ host: "127.0.0.1", port: server.address().port }, (r) => r.on("data", (text) =>
    new Worker("require('worker_threads').parentPort.postMessage(1)", { eval: true }).on("message", () => {
      console.log(String(text)); process.exit(0); }))));
""",
    "ruby": """
require "socket"; require "open3"; require "tmpdir"; require "etc"; require "net/http"
Open3.capture2("true"); fork { exit 0 }; Process.wait; Thread.new { 1 }.join; Dir.mktmpdir {}
Socket.getifaddrs; Socket.ip_address_list; r, w = IO.pipe; Addrinfo.getaddrinfo("localhost", 80)
puts "ok"
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreters_run(code: Path, name: str) -> None:
    """With processes, threads, files, sockets and pipes."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    flag = "-e" if name in ("node", "ruby") else "-c"
    done = filtered(code, sys.executable if name == "python3" else name, flag, PROGRAMS[name])
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


JAVA = """
import java.net.*; import java.nio.file.*; import java.util.concurrent.*;
public class Main {
  public static void main(String[] arguments) throws Exception {
    if (new ProcessBuilder("true").start().waitFor() != 0) return;
    ExecutorService pool = Executors.newFixedThreadPool(4);
    pool.submit(() -> 1).get(); pool.shutdown();
    Path file = Files.createTempFile("x", "y"); Files.writeString(file, "1"); Files.delete(file);
    NetworkInterface.getNetworkInterfaces();
    try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
         Socket socket = new Socket(server.getInetAddress(), server.getLocalPort())) {
      server.accept().close();
    }
    Runtime.getRuntime().availableProcessors(); System.gc();
    System.out.println("ok");
  }
}
"""


def test_java_runs(code: Path) -> None:
    """The virtual machine, and the compiler."""
    if not shutil.which("java"):
        pytest.skip("java is not installed")
    (code.parent / "Main.java").write_text(JAVA)
    done = filtered(code, "java", "-Xmx128m", "Main.java", TMPDIR=str(code.parent))
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


GO = """
package main
import ("fmt"; "net"; "net/http"; "os"; "os/exec"; "io"; "runtime")
func main() {
  if exec.Command("true").Run() != nil { os.Exit(1) }
  net.Interfaces(); runtime.GC()
  l, _ := net.Listen("tcp", "127.0.0.1:0")
  answer := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\\n") }
  go http.Serve(l, http.HandlerFunc(answer))
  r, err := http.Get("http://" + l.Addr().String())
  if err != nil { panic(err) }
  b, _ := io.ReadAll(r.Body)
  fmt.Print(string(b))
}
"""


def test_go_runs(code: Path) -> None:
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    (code.parent / "main.go").write_text(GO)
    subprocess.run(["go", "build", "main.go"], cwd=code.parent, check=True, capture_output=True, timeout=50)
    done = filtered(code, "./main")
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


C_SHARP = """
using System; using System.Diagnostics; using System.IO; using System.Net; using System.Threading.Tasks;
class Program {
  static void Main() {
    Task.Run(() => 1).Wait(); Dns.GetHostName(); GC.Collect();
    var file = Path.GetTempFileName(); File.WriteAllText(file, "1"); File.Delete(file);
    Process.Start(new ProcessStartInfo("true") { UseShellExecute = false }).WaitForExit();
    Console.WriteLine("ok");
  }
}
"""


def test_mono_runs(code: Path) -> None:
    if not (shutil.which("mono") and shutil.which("mcs")):
        pytest.skip("mono and its compiler mcs are not installed")
    (code.parent / "a.cs").write_text(C_SHARP)
    subprocess.run(["mcs", "a.cs"], cwd=code.parent, check=True, capture_output=True, timeout=50)
    done = filtered(code, "mono", "a.exe")
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
