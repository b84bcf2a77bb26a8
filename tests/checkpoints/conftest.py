"""The two processes of the tests of several ranks."""

from tests.training.distributed.conftest import two as two
