"""A certificate for tests, of this machine by its usual names."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make(folder: Path) -> tuple[Path, Path]:
    """PEM files of one that has signed itself, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / "certificate.pem", folder / "key.pem"
    new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run([*new, *names, "-out", str(cert), "-keyout", str(key)], check=True, capture_output=True)
    return cert, key
