"""What a worker's start does not import."""

import subprocess
import sys

STEP = """
import sys, torch
from ft_horovod.core.config import ModelConfig, OptimizerConfig
from ft_horovod.training.flat import FlatModel
from ft_horovod.training.models import build_model
from ft_horovod.training.sgd import FlatSGD
flat = FlatModel(build_model(ModelConfig(name="tiny"), 10, 1, 0))
flat.model(torch.ones(2, 1, 32, 32)).sum().backward()
FlatSGD(flat, OptimizerConfig()).step(0.1)
print([name for name in ("torch._dynamo", "sympy", "sklearn") if name in sys.modules])
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu"))
"""


def test_a_step_needs_no_compiler_and_the_compiler_can_be_imported_later() -> None:
    told = subprocess.run([sys.executable, "-c", STEP], check=True, capture_output=True, text=True, timeout=120)
    assert told.stdout.split("\n")[:2] == ["[]", "True"]
