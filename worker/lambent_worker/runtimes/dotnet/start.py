"""Becomes a .NET program where .NET has no `dotnet` of its own: start.py ROOT LIBHOSTFXR PROGRAM"""

import ctypes
import os
import sys


class Parameters(ctypes.Structure):
    """hostfxr_initialize_parameters"""

    _fields_ = (("size", ctypes.c_size_t), ("host_path", ctypes.c_char_p), ("dotnet_root", ctypes.c_char_p))


def main(root: str, library: str, program: str) -> int:
    host = ctypes.CDLL(library)
    arguments = (ctypes.c_char_p * 1)(program.encode())
    parameters = Parameters(ctypes.sizeof(Parameters), f"{root}/dotnet".encode(), root.encode())
    handle = ctypes.c_void_p()
    status: int = host.hostfxr_initialize_for_dotnet_command_line(
        1, arguments, ctypes.byref(parameters), ctypes.byref(handle)
    )
    if status < 0 or handle.value is None:
        sys.stderr.write(f".NET cannot be started: status {status & 0xFFFFFFFF:#x}\n")
        return 1
    return int(host.hostfxr_run_app(handle))


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]) & 0xFF)
