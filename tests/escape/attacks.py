"""A function that tries to get out of its sandbox, one way a call. What it returns is what it got.

It runs as user code does, in the instance, so it imports the standard library alone. An attack answers with
"denied: ERRNO", with what it found, or not at all.
"""

import ctypes
import errno
import os
import resource
import socket
import struct
import subprocess
import time

NUMBERS = {
    "clone": 56,
    "ptrace": 101,
    "mount": 165,
    "umount2": 166,
    "unshare": 272,
    "setns": 308,
    "chroot": 161,
    "pivot_root": 155,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "init_module": 175,
    "finit_module": 313,
    "delete_module": 176,
    "kexec_load": 246,
    "clock_settime": 227,
    "settimeofday": 164,
    "adjtimex": 159,
    "sethostname": 170,
    "reboot": 169,
    "swapon": 167,
    "bpf": 321,
    "io_uring_setup": 425,
    "keyctl": 250,
    "add_key": 248,
    "userfaultfd": 323,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "mknod": 133,
    "iopl": 172,
    "quotactl": 179,
    "syslog": 103,
    "acct": 163,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "mount_setattr": 442,
    "pidfd_getfd": 438,
}
"""Of x86_64, from <asm/unistd_64.h>."""

KEPT = []

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """One system call, past whatever the C library makes of it."""
    buffer = ctypes.create_string_buffer(b"/tmp/made", 4096)
    made = [
        ctypes.c_void_p(ctypes.addressof(buffer)) if a == "buffer" else ctypes.c_long(a) for a in arguments
    ]
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *made)
    return denied(ctypes.get_errno()) if result < 0 else f"it returned {result}"


def denied(number):
    return f"denied: {errno.errorcode.get(number, number)}"


def open_file(path, mode="rb"):
    try:
        with open(path, mode) as file:
            return file.read(64).hex() if "r" in mode else "opened"
    except OSError as error:
        return denied(error.errno)


def processes():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def writable():
    """Every folder of the whole tree in which a file can be made."""
    found = []
    for folder, names, _ in os.walk("/"):
        if folder == "/":
            names[:] = [name for name in names if name != "proc"]
        probe = os.path.join(folder, ".probe")
        try:
            open(probe, "w").close()
            os.unlink(probe)
        except OSError:
            continue
        found.append(folder)
    return found


def connect(host, port, kind="SOCK_STREAM", family="AF_INET"):
    try:
        with socket.socket(getattr(socket, family), getattr(socket, kind)) as probe:
            probe.settimeout(2)
            probe.connect((host, port))
            return "connected"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return denied(error.errno)


def connect_by_sending(host, port):
    with socket.socket() as probe:
        try:
            probe.sendto(b"x", 0x20000000, (host, port))  # MSG_FASTOPEN
            return "connected"
        except OSError as error:
            return denied(error.errno)


def connect_by_mptcp(host, port):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as probe:
            probe.connect((host, port))
            return "connected"
    except OSError as error:
        return denied(error.errno)


def make_socket(family, kind):
    try:
        socket.socket(getattr(socket, family), getattr(socket, kind)).close()
        return "made"
    except OSError as error:
        return denied(error.errno)


def signal_process(pid, number):
    try:
        os.kill(pid, number)
        return "sent"
    except OSError as error:
        return denied(error.errno)


def fork_bomb():
    made = 0
    try:
        while made < 100_000:
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            made += 1
    except OSError as error:
        return [made, denied(error.errno)]


def open_many():
    files = []
    try:
        while len(files) < 100_000:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return [len(files), denied(error.errno)]
    finally:
        for fd in files:
            os.close(fd)


def raise_limit(name, value):
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
        return "raised"
    except (OSError, ValueError) as error:
        return type(error).__name__


def fill_tmp():
    written, block = 0, b"x" * 1_048_576
    try:
        with open("/tmp/filled", "wb", buffering=0) as file:
            while written < 100_000:
                file.write(block)
                written += 1
    except OSError as error:
        os.unlink("/tmp/filled")
        return [written, denied(error.errno)]


def many_files():
    made = 0
    os.mkdir("/tmp/many")
    try:
        while made < 10_000_000:
            open(f"/tmp/many/{made}", "w").close()
            made += 1
    except OSError as error:
        for name in os.listdir("/tmp/many"):
            os.unlink(f"/tmp/many/{name}")
        return denied(error.errno)


def use_memory(mb):
    block = bytearray(mb * 1_048_576)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return len(block)


def daemon():
    """A process that has left its session, ignores signals and listens; returns its pid as it sees it."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            import signal

            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    continue
            listener = socket.create_server(("127.0.0.1", 7777))
            os.write(tell, str(os.getpid()).encode())
            listener.accept()
            time.sleep(600)
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(told, 20))


def run_command(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except OSError as error:
        return denied(error.errno)
    return [done.returncode, (done.stdout + done.stderr)[:200]]


def status(*names):
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return [fields[name].strip() for name in names]


def real_time():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        return "real time"
    except OSError as error:
        return denied(error.errno)


def send_slow_descriptor(seconds):
    """Over its channel, a connection that waits so long for its unsent data when it is closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    sender.setblocking(False)
    try:
        while True:
            sender.send(b"x" * 65536)
    except BlockingIOError:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    KEPT.append(receiver)
    with socket.socket(fileno=os.dup(3)) as channel:
        try:
            socket.send_fds(channel, [b"\0"], [sender.fileno()])
            return "sent"
        except OSError as error:
            return denied(error.errno)
        finally:
            sender.close()


def many_connections(host, port):
    """More than anybody needs, all held open; returns how many were taken."""
    held = []
    try:
        for _ in range(900):
            held.append(socket.create_connection((host, port), timeout=2))
    except OSError:
        pass
    count = len(held)
    for it in held:
        it.close()
    return count


def burn(seconds):
    """Two processes that do nothing but compute; returns the CPU seconds they got."""
    began = time.monotonic()
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() - began < seconds:
                pass
            os._exit(0)
        children.append(pid)
    return sum(sum(os.wait4(pid, 0)[2][:2]) for pid in children)


def handler(event, context):
    name, *arguments = event
    return globals()[name](*arguments)
