"""The files that all shells see alike: built once, in a mount namespace of which each shell gets a copy.

Nothing is mounted in the host's own namespace, so nothing needs to be unmounted there, whatever happens.
"""

from __future__ import annotations

import os
from typing import Final

from . import kernel
from .entry import INSIDE_GID, INSIDE_UID

READ_ONLY: Final = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV

LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FOLDERS: Final = ("proc", "tmp", "opt/lib", "dev", "etc", "var/task/lib", "var/runtime")
"""The two `lib`s are hidden once something is mounted over them: a zygote's loader remembers for all its
children which folders of LD_LIBRARY_PATH there are."""
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

ETC: Final = {
    "passwd": (
        f"root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:{INSIDE_UID}:{INSIDE_GID}::/tmp:/sbin/nologin\n"
    ),
    "group": f"root:x:0:\nsbx_user1051:x:{INSIDE_GID}:\n",
    "hosts": "127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "resolv.conf": "nameserver 10.0.2.3\n",
}
"""The nameserver is slirp4netns's; without a network it cannot be reached, as nothing can."""

ETC_OF_THE_HOST: Final = ("ld.so.cache", "ssl", "alternatives", "java-*", "mono")
"""Copied if it is there: the JDK and Mono keep settings in /etc without which they do not start."""


def build(scratch: str, runtimes: str, prefixes: list[str], with_proc: bool) -> int:
    """The mount namespace, as a descriptor. `scratch` is a folder of the host's. Raises OSError.

    `with_proc` mounts the caller's /proc: in a user namespace only who sees one already may mount another.
    """
    told, tell = os.pipe()
    go, wait = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(told)
            os.close(wait)
            _build(scratch, runtimes, prefixes, with_proc)
            os.close(tell)
            os.read(go, 1)  # until the parent holds the namespace
            code = 0
        except BaseException as error:  # noqa: BLE001 - it is said to the parent, who raises
            os.write(tell, str(error).encode())
        finally:
            os._exit(code)
    os.close(tell)
    os.close(go)
    try:
        with os.fdopen(told, "rb") as pipe:
            why = pipe.read()
        if why:
            raise OSError(f"the file system of instances cannot be built: {why.decode()}")
        return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(wait)
        os.waitpid(pid, 0)


def _build(scratch: str, runtimes: str, prefixes: list[str], with_proc: bool) -> None:
    os.umask(0o022)
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("lambent", scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=16m,mode=755")
    furnish(scratch, runtimes, prefixes)
    for name, target in LINKS.items():
        os.symlink(target, f"{scratch}{name}")
    for device in DEVICES:
        os.close(os.open(f"{scratch}{device}", os.O_CREAT))
        bind(device, f"{scratch}{device}", kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC)
    if with_proc:
        bind("/proc", f"{scratch}/proc", kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV)
    os.chdir(scratch)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    kernel.set_mount(kernel.AT_FDCWD, "/", READ_ONLY)


def furnish(root: str, runtimes: str, prefixes: list[str]) -> None:
    """Gives the empty folder `root` what instances see alike, but for devices. Raises OSError."""
    for folder in FOLDERS:
        os.makedirs(f"{root}/{folder}")
    os.chmod(f"{root}/tmp", 0o1777)
    write_etc(f"{root}/etc")
    for path in (*SYSTEM, *prefixes):
        if os.path.islink(path):
            os.symlink(os.readlink(path), f"{root}{path}")
        elif os.path.isdir(path):
            os.makedirs(f"{root}{path}", exist_ok=True)
            bind(path, f"{root}{path}")
    bind(runtimes, f"{root}/var/runtime")


def bind(path: str, target: str, attributes: int = READ_ONLY) -> None:
    kernel.attach(kernel.detached(path, attributes), target)


def write_etc(etc: str) -> None:
    """Into an empty folder, what instances see as theirs."""
    import glob
    import shutil  # these two only here, in a child: the fork server stays small

    for name, text in ETC.items():
        with open(f"{etc}/{name}", "w") as file:
            file.write(text)
    for pattern in ETC_OF_THE_HOST:
        for path in glob.glob(f"/etc/{pattern}"):
            target = f"{etc}/{os.path.basename(path)}"
            if os.path.isdir(path):
                ignored = shutil.ignore_patterns("private")
                shutil.copytree(path, target, symlinks=True, ignore=ignored)
            else:
                shutil.copy(path, target)
