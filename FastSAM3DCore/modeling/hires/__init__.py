"""The project's own network: one family, two depths, full-resolution masks."""

from .config import ARCH, HiresConfig, student_config, teacher_config
from .model import HiresModel, build_hires, load_hires, save_hires

__all__ = [
    "ARCH",
    "HiresConfig",
    "HiresModel",
    "build_hires",
    "load_hires",
    "save_hires",
    "student_config",
    "teacher_config",
]
