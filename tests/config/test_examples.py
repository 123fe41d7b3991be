"""Every example loads as it stands."""

import sys
from pathlib import Path

import pytest

from certificates import make_certificate
from streamfaas.config.check import check

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ["client-key-password", "kafka-password", "client-secret", "orders-api-key", "ca.pem", "client.pem", "client.key", "token", "hook", "hook-secret", "collector", "aws-secret", "aws-token", "webhook"]  # fmt: skip

SIGNING = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_valid(path, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text(SIGNING if name == "hook-secret" else "x\n")
    make_certificate(tmp_path, "client")
    (tmp_path / "ca.pem").write_bytes((tmp_path / "client.pem").read_bytes())
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "VENV": sys.prefix}
    environ |= {"S3_KEY": "key", "S3_SECRET": "secret"}
    config, problems = check(path.read_text(), name=path.name, base_dir=CONFIGS, environ=environ)
    assert config is not None, problems
    # a directory that is watched is not part of the example
    assert {problem.code for problem in problems} <= {"SF1076"}
    assert config.functions
