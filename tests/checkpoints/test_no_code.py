"""Nothing that a checkpoint holds is ever run: each file here would create another, and it is never there."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from tests.checkpoints.refusing import STATE, pair, refusal

TRACE = "it-was-run"


class Bomb:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (TRACE,)


class Setter:
    """The same, by its state."""

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (), None, None, iter([("a", Bomb())])


@pytest.fixture(autouse=True)
def _never_run() -> None:
    pickle.loads(pickle.dumps(Bomb()))
    assert Path(TRACE).is_dir()  # so would it be
    Path(TRACE).rmdir()


def _tar(data: bytes) -> bytes:
    """As torch saved before there was a version to name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", f"../{TRACE}"):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return buffer.getvalue()


def _script(data: bytes) -> bytes:
    """As TorchScript saves."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{name}", data)
        archive.writestr("model/version", b"3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("form", ["archive", "before 1.6", "setter", "pickle", "protocol 5", "tar", "script"])
def test_code_is_not_run(tmp_path: Path, ending: str, form: str) -> None:
    file = pair(tmp_path, ending)
    saved = {"state_dict": STATE, "callbacks": Bomb(), "global_step": 2}
    if form in ("archive", "before 1.6"):
        torch.save(saved, file, _use_new_zipfile_serialization=form == "archive")
    elif form == "setter":
        torch.save({**STATE, "more": Setter()}, file)
    elif form.startswith("p"):
        file.write_bytes(pickle.dumps(saved, protocol=5 if form == "protocol 5" else 2))
    else:
        file.write_bytes((_tar if form == "tar" else _script)(pickle.dumps(saved)))
    said = refusal(tmp_path)
    assert str(file) in said
    if form in ("archive", "before 1.6") and ending != ".safetensors":
        assert "(posix.mkdir), which only running its code could read; wstrack never does" in said
    assert not list(tmp_path.rglob(f"*{TRACE}*"))
    assert not Path(TRACE).exists()


def test_nor_where_the_environment_asks_for_it(tmp_path: Path) -> None:
    file = pair(tmp_path, ".pt")
    torch.save({**STATE, "more": Bomb()}, file)
    code = f"import wstrack; wstrack.pull('checkpoints:{tmp_path}')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "which only running its code could read" in done.stderr
    assert not Path(TRACE).exists()
