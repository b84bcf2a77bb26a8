"""The code of docs/trainers.md, as printed, with each trainer itself."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import wstrack

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "trainers.md").read_text()
SECTIONS = {
    re.search(r"import \w+\nfrom wstrack_integrations\.(\w+)|wstrack_integrations\.(\w+)", code)[0]: code
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}
