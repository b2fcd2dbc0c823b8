"""A job under spark-submit: `spark-submit --driver-class-path JARS deploy/submit.py features.job --available-now`.

spark-submit starts a file, and a file's folder comes first where Python looks for modules: a room's own `statistics.py`
or `delta.py` would hide the libraries of that name. From here the job is a module of the repository.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.argv = sys.argv[1:]
    if not sys.argv:
        sys.exit("Which job? For example: deploy/submit.py features.job --available-now")
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
