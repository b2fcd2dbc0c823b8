"""A job where its process is started by somebody else: spark-submit, or the command of the wheel.

    spark-submit --driver-class-path JARS deploy/submit.py features.job --available-now
    fraudlake features.job --available-now

spark-submit starts a file, and a file's folder comes first where Python looks for modules: a room's own `statistics.py`
or `delta.py` would hide the libraries of that name. From here the job is a module of the repository, or of the wheel.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the module that the first argument names with the others; SystemExit with its exit code unless that is 0."""
    sys.argv = sys.argv[1:]
    if not sys.argv:
        sys.exit("Which job? For example: features.job --available-now")
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        # Not every caller takes an exit with code 0 for success.
        if ended.code:
            raise


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
