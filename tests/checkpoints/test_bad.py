"""Bad folders and files of checkpoints: each is refused in one line that says what is wrong with which file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import wstrack
from tests.checkpoints.refusing import STATE, pair, refusal
from wstrack.checkpoints.folder import runs_at
from wstrack.checkpoints.measuring import measure
from wstrack.errors import WstrackError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n"


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert "no series of checkpoints: files of weights" in refusal(tmp_path)
    assert "there is no such file or folder" in refusal(tmp_path / "missing")
    assert "there is no such file or folder" in refusal(tmp_path / "no*thing")
    assert "there is no such file or folder" in refusal(f"{tmp_path}\0/x")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_bytes(b"weights")
    assert "a series needs two" in refusal(tmp_path / "checkpoints")
    file = pair(tmp_path / "run")
    assert "is one checkpoint; a series needs two" in refusal(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_and_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    file = pair(tmp_path / "run")
    file.chmod(0)
    assert f"{file} cannot be read" in refusal(tmp_path / "run")
    (tmp_path / "run").chmod(0)
    said = refusal(tmp_path / "run")
    (tmp_path / "run").chmod(0o700)
    assert "cannot be read: Permission denied" in said


def test_checkpoints_of_two_models(tmp_path: Path) -> None:
    pair(tmp_path)
    save_file({"conv.weight": torch.ones(4, 4, 3, 3), "fc.weight": torch.ones(4, 4)}, tmp_path / "step_3.safetensors")
    assert "are of different models" in refusal(tmp_path)


def test_two_of_one_step(tmp_path: Path) -> None:
    pair(tmp_path)
    torch.save(STATE, tmp_path / "model-step_2.pt")
    assert "both of step 2; give those of one run" in refusal(tmp_path)


@pytest.mark.parametrize("step", [True, -5, 10**30, "7", [7], None, 1.5, float("nan")])
def test_a_step_that_is_none_is_not_taken_for_one(tmp_path: Path, step: object) -> None:
    for number in (10, 20):
        (tmp_path / f"checkpoint-{number}").mkdir()
        save_file(STATE, tmp_path / f"checkpoint-{number}" / "model.safetensors")
        state = {"global_step": step, "epoch": step}
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(json.dumps(state))
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    assert run.steps.tolist() == [20]
    assert run.origin["steps_from"] == "the steps in their names"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe{}", b'{"global_step": ' + b"9" * 5000 + b"}"]
)
def test_what_lies_beside_the_weights_may_be_damaged(tmp_path: Path, content: bytes) -> None:
    for number in (10, 20):
        (tmp_path / f"checkpoint-{number}").mkdir()
        save_file(STATE, tmp_path / f"checkpoint-{number}" / "model.safetensors")
        for name in ("trainer_state.json", "config.json"):
            (tmp_path / f"checkpoint-{number}" / name).write_bytes(content)
    assert wstrack.pull(f"checkpoints:{tmp_path}").steps.tolist() == [20]


def test_a_list_longer_than_a_path_may_be(tmp_path: Path) -> None:
    files = []
    for step in range(60):
        files.append(tmp_path / f"{'x' * 150}_step_{step}.safetensors")
        save_file(STATE, files[-1])
    listed = ",".join(map(str, files))
    assert len(listed) > 4096
    assert len(wstrack.pull(f"checkpoints:{listed}").steps) == 59


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    file = pair(tmp_path)
    pipe = tmp_path / "step_3.safetensors"
    os.mkfifo(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(wstrack.pull(f"checkpoints:{tmp_path}").steps) == 1  # the two that are files
    assert f"{pipe} is no file of weights: it is no plain file" in refusal(f"{file},{pipe}")
    assert "nothing but zeros" in refusal(f"{file},/dev/zero") or "no plain file" in refusal(f"{file},/dev/zero")
    pipe.unlink()
    pipe.symlink_to(pipe)
    assert len(wstrack.pull(f"checkpoints:{tmp_path}").steps) == 1


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "a\\b", "²", "٣", "x" * 200, " "])
def test_odd_names_of_folders(tmp_path: Path, name: str, call: Callable) -> None:
    file = pair(tmp_path / name)
    code, out, err = call("pull", f"checkpoints:{tmp_path / name}", "-o", "out")
    assert (code, Path("out").exists()) == (0, True), err
    assert "\x1b" not in out + err
    file.write_bytes(file.read_bytes()[:-8])
    code, out, err = call("pull", f"checkpoints:{tmp_path / name}", "-o", "cut")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "\x1b" not in out + err
    assert not Path("cut").exists()


def test_a_folder_whose_name_is_no_text(tmp_path: Path, call: Callable) -> None:
    for ending in (".safetensors", ".pt"):
        pair(tmp_path / ending, ending)
        (tmp_path / ending).rename(tmp_path / f"half\udcff{ending}")  # as a file system of another encoding has it
    assert len(wstrack.pull(f"checkpoints:{tmp_path}/half\udcff.safetensors").steps) == 1
    # Torch takes no such path, and says so.
    assert "cannot be read" in refusal(tmp_path / "half\udcff.pt")
    code, _, err = call("pull", f"checkpoints:{tmp_path}/half\udcff.pt", "-o", "out")
    assert code == 1
    assert "\udcff" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["nul\0in.weight", "new\nline.weight", "\x1b[31mred.weight", "half\ud800.weight", "²", "", ".", "..",
             "a..b", "9" * 5000, "x" * 3000, "layers.٣.weight", "../../etc/passwd", "/etc/passwd"],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_odd_names_of_tensors(tmp_path: Path, name: str, ending: str, call: Callable) -> None:
    for step in (1, 2):
        state = {name: torch.full((3, 3), float(step)), "layers.1.weight": torch.ones(3, 3)}
        try:
            if ending == ".pt":
                torch.save(state, tmp_path / f"step_{step}.pt")
            else:
                save_file(state, tmp_path / f"step_{step}.safetensors")
        except UnicodeEncodeError:
            pytest.skip("the format has no such name")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    assert sorted(run.series["rwc"].iloc[0]) == [0, 1]
    code, out, err = call("report", f"checkpoints:{tmp_path}", "-o", "r.md")
    assert "Traceback" not in out + err
    assert not {"\x1b", "\0"} & set(out + err)
    if code == 0:
        assert not {"\x1b", "\0"} & set(Path("r.md").read_text(encoding="utf-8"))


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (POINTER, "run `git lfs pull`"),
        (PAGE, "it is a web page"),
        (bytes(5000), "nothing but zeros"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "gzip"),
        (b"no weights at all\n" * 20, "cannot be read"),
        (b"PK\x03\x04" + b"x" * 100, "cannot be read"),
    ],
    ids=["empty", "pointer", "page", "zeros", "gzip", "text", "zip"],
)
def test_what_is_no_checkpoint(tmp_path: Path, ending: str, content: bytes, said: str) -> None:
    file = pair(tmp_path, ending)
    file.write_bytes(content)
    refused = refusal(tmp_path)
    assert str(file) in refused
    assert said in refused


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_half_a_download(tmp_path: Path, ending: str, part: float) -> None:
    file = pair(tmp_path, ending)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    assert f"{file} cannot be read" in refusal(tmp_path)
    if ending == ".safetensors":  # behind a zip archive a comment may follow
        file.write_bytes(whole + whole[:50])
        assert f"{file} cannot be read" in refusal(tmp_path)


# ---- while it is read ------------------------------------------------------------------------------------------------


def _cut(file: Path) -> None:
    os.truncate(file, 2000)


def _write(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-8, os.SEEK_END)
        opened.write(b"\x01" * 8)


def _replace(file: Path) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(file.read_bytes())
    fresh.replace(file)


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("change", [_cut, _write, _replace, Path.unlink])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, ending: str, view: bool, change: Callable[[Path], object]
) -> None:
    for step in (1, 2):
        whole = torch.randn(100, 100)
        if ending == ".pt":
            torch.save({"w": whole[:, ::2] if view else whole}, tmp_path / f"step_{step}.pt")
        else:
            save_file({"w": whole}, tmp_path / f"step_{step}.safetensors")
    (found,) = runs_at(str(tmp_path))
    with pytest.raises(WstrackError, match=r"has been (cut|changed)|cannot be read: No such file") as caught:
        measure(found, progress=lambda done, total: None if done else change(found.paths[1]))
    assert str(found.paths[1]) in str(caught.value)


def _gone(file: Path) -> Callable[[int, int], None]:
    return lambda done, total: file.unlink() if done == total else None


def test_a_file_that_is_gone_when_it_is_recorded(tmp_path: Path) -> None:
    pair(tmp_path / "run")
    (found,) = runs_at(str(tmp_path / "run"))
    with pytest.raises(WstrackError, match="is gone since it was read"):
        measure(found, to=tmp_path / "out", progress=_gone(found.paths[1]))
    assert not list(tmp_path.rglob("*.arrow*"))


# ---- values ----------------------------------------------------------------------------------------------------------


def test_values_that_are_no_numbers_are_missing_not_made_up(tmp_path: Path) -> None:
    file = pair(tmp_path)
    save_file({"a.weight": torch.full((3, 4), torch.nan), "b.weight": torch.ones(2, 2)}, file)
    row = wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0]
    assert np.isnan(row["a.weight"])
    assert row["b.weight"] == 0
