"""No password and no character that a terminal obeys comes to where people read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wstrack.messages import printable, without_secrets
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run
from wstrack.runs.tables import save_run

ADDRESSES = [
    ("postgresql+psycopg2://me:ssw/0rd@db:5432/runs", "ssw/0rd"),
    ("postgresql+psycopg2://me:ss@w0rd@db/runs", "ss@w0rd"),
    ("postgresql+psycopg2://db/runs?user=me&password=ssw%2F0rd", "ssw/0rd"),
    ("mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BUID%3Dme%3BPWD%3Dssw%2F0rd", "ssw/0rd"),
    ("mysql://me:p@db/runs", "me:p"),
    ("snowflake://me:ssw0rd12@account/db", "ssw0rd12"),
    ("https://me:token-of-mine@tracking.example/path", "token-of-mine"),
    ("s3://key:secretsecret@bucket/x", "secretsecret"),
]


@pytest.mark.parametrize(("address", "secret"), ADDRESSES)
def test_no_part_of_an_address_that_is_secret_is_shown(address: str, secret: str) -> None:
    shown = without_secrets(f"cannot read {address}: (driver) authentication of {secret!r} failed", address)
    assert secret not in shown.replace("***", "")
    assert address.partition("://")[0] in shown


@pytest.mark.parametrize("command", ["pull", "runs", "report"])
@pytest.mark.parametrize(("address", "secret"), ADDRESSES)
def test_nor_by_a_command_that_does_not_know_it(call: Callable, command: str, address: str, secret: str) -> None:
    code, out, err = call(command, address)
    assert code
    assert secret not in out + err


def test_an_address_without_secrets_stays_whole() -> None:
    for address in ("https://wandb.ai/team/project/runs/3f2a", "postgresql://db:5432/runs", "mail to me@example.org"):
        assert without_secrets(address) == address


def test_names_of_others_steer_no_terminal(call: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = "conv\x1b[31m\x1b]0;title\x07\u202e\x9b2J"
    names = [f"{odd}{number}.weight" for number in range(6)]
    manifest = Manifest(f"run{odd}", tuple(Layer(name, "conv", (3,), 3) for name in names), ("rwc",), 1)
    values = 10 ** np.random.default_rng(0).normal(-3, 0.1, (40, 6)) * np.array([1, 1, 1, 1, 1, 40])
    save_run(Run.from_values(manifest, range(1, 41), {"rwc": values}), tmp_path / "t.parquet")
    code, out, err = call("report", str(tmp_path / "t.parquet"), "--k", "2", "-o", "r.html", "-o", "r.md")
    assert code == 0
    for text in (out, err, Path("r.md").read_text(encoding="utf-8"), Path("r.html").read_text(encoding="utf-8")):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    with caplog.at_level(logging.WARNING, "wstrack"):
        logging.getLogger("wstrack").warning("%s is there, at mysql://me:secret@db/x", odd)
    assert caplog.messages[-1] == r"conv\x1b[31m\x1b]0;title\x07\u202e\x9b2J is there, at mysql://***@db/x"
    assert printable("größe ✓ 層\n\t") == "größe ✓ 層\n\t"
