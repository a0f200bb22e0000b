"""The system call filter of instances, ready to load: made beforehand, because making it takes milliseconds.

Which calls it lets through, and why, is in `allowed.py`; `generate.py` renews the bytes.
"""

import os


def program(machine: str, kind: str = "") -> bytes:
    """Classic BPF, 8 bytes an instruction, for PR_SET_SECCOMP. Raises LookupError for an unknown machine.

    `machine` is a name as platform.machine() gives it; `kind` is empty, or `-snapshot` for those that fork.
    """
    path = os.path.join(os.path.dirname(__file__), f"{machine}{kind}.bpf")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise LookupError(
            f"there is no system call filter for {machine}, only for x86_64 and aarch64"
        ) from None
