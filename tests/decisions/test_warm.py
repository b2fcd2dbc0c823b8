"""What `make setup` compiles is all that an engine runs: no payment ever waits for a compiler."""

import os
import subprocess
import sys

from deploy.local.apart import variables
from lakehouse.settings import home

DECIDING = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/decisions")
import logs, models
from numba.core.dispatcher import Dispatcher
from decisions.beside import explained
from lakehouse import keys, settings as conf
from lakehouse.warming import warm_all

ROOMS = ("lakehouse.", "expectations.", "features.", "decisions.")

def compiled():
    kernels = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(ROOMS):
            for one in vars(module).values():
                if isinstance(one, Dispatcher):
                    kernels[f"{one.__module__}.{one.__name__}"] = {str(s) for s in one.signatures}
    return kernels

settings = conf.load()
folder = logs.keys_folder(settings)
keys.create(folder)
digest = models.stored(conf.resolve(settings.models.store), Path(settings.state_dir) / "scratch", folder)
versions = {}
values = [logs.control(settings, versions, "reference", logs.reference())]
values += logs.model(settings, versions, digest)
messages = logs.messages(values + logs.payments(faults=2))
engine = logs.engine(settings)
warm_all()
before = compiled()
pieces = [*range(0, 200), 1000, len(messages)]
bodies = [body for a, b in zip(pieces, pieces[1:]) for body in engine.decide(messages[a:b])]
adverse = [(body.subject(row), body.scored_by(row)) for body in bodies for row in body.adverse.tolist()]
assert adverse
for subject, model in adverse:
    explained([subject], model)
after = compiled()
print({name: sorted(after[name] - before.get(name, set())) for name in after if after[name] - before.get(name, set())})
"""


def test_deciding_and_explaining_compile_nothing_after_the_warming(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DECIDING],
        env={**os.environ, **variables(tmp_path)},
        cwd=home(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "{}"
