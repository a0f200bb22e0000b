"""Entry of an instance: `python LAMBDA_RUNTIME_DIR/lambent_bootstrap/__main__.py FD`."""

import os
import sys
from importlib import import_module

_runtime_dir = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, _runtime_dir)
_runtime = import_module("lambent_bootstrap.runtime")
sys.path.remove(_runtime_dir)  # what can be imported is the function's own affair
_runtime.main(fd=int(sys.argv.pop()))
