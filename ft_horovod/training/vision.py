"""What is used of torchvision, imported without torch's compiler.

torchvision's detection layers ask the compiler whether it is there, and to ask is to import it: 1.4 s of every worker's
start for nothing, as nothing here is compiled. They are told "no" instead. The compiler itself can still be imported
later.
"""

from __future__ import annotations

import sys
from types import ModuleType

_COMPILER = "torch._dynamo.utils"


class _NoCompiler(ModuleType):
    """Stands in for the compiler's module while torchvision is imported."""

    @staticmethod
    def is_compile_supported(_device_type: str) -> bool:
        """Answers torchvision."""
        return False


_stands_in = _COMPILER not in sys.modules and "torchvision" not in sys.modules
if _stands_in:
    sys.modules[_COMPILER] = _NoCompiler(_COMPILER)
try:
    from torchvision.models import ResNet
    from torchvision.models.resnet import BasicBlock, Bottleneck
    from torchvision.ops import FrozenBatchNorm2d
finally:
    if _stands_in:
        del sys.modules[_COMPILER]

__all__ = ["BasicBlock", "Bottleneck", "FrozenBatchNorm2d", "ResNet"]
