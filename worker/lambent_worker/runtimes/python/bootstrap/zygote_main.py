"""Entry of a zygote: `python LAMBDA_RUNTIME_DIR/python/lambent_bootstrap/zygote_main.py`.

It imports what runtimes and most functions need, and lets every instance be a fork of itself. What functions
rarely need is left out: each megabyte makes every fork some 25 us longer.
"""

import os
import sys
from importlib import import_module

COMMON = (
    "base64 collections contextlib copy dataclasses datetime decimal enum functools hashlib io itertools "
    "json logging operator random re string tempfile threading traceback typing urllib.parse uuid"
)

_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, _folder)
_runtime = import_module("lambent_bootstrap.runtime")
_zygote = import_module("lambent_bootstrap.zygote")
_rehearsal = import_module("lambent_bootstrap.rehearsal")
sys.path.remove(_folder)  # what can be imported is the function's own affair
for _name in COMMON.split():
    import_module(_name)
_snapshot = _zygote.serve(_rehearsal.rehearse)
_runtime.main(3, _snapshot)
