"""The collector's configuration, as far as it can be checked without a collector: there is none in
the registries."""

import re

import pytest
import yaml

from expressions import DEPLOY
from parts import CHECKOUT

CONFIG = yaml.safe_load((DEPLOY / "otel-collector" / "config.yaml").read_text())
PIPELINES = CONFIG["service"]["pipelines"]
KINDS = ("receivers", "processors", "exporters")


def addresses(node):
    """Every address that something listens on."""
    for section in ("receivers", "exporters", "extensions"):
        for text in re.findall(r"'endpoint': '([^']*)'", str(node[section])):
            if not text.startswith("${"):
                yield text


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_names_what_there_is_and_sheds_load_before_anything_else(name):
    pipeline = PIPELINES[name]
    assert set(pipeline) == set(KINDS)
    for kind in KINDS:
        assert pipeline[kind], kind
        assert set(pipeline[kind]) <= set(CONFIG[kind])
    assert pipeline["processors"][0] == "memory_limiter"
    assert pipeline["processors"][-1] == "batch"
    assert name.partition("/")[0] in {"traces", "metrics", "logs"}


def test_everything_that_is_defined_is_used():
    for kind in KINDS:
        used = {name for pipeline in PIPELINES.values() for name in pipeline[kind]}
        assert used == set(CONFIG[kind])
    assert CONFIG["service"]["extensions"] == list(CONFIG["extensions"])


def test_it_listens_on_this_machine_only_and_on_no_port_twice():
    found = list(addresses(CONFIG))
    assert {address.rpartition(":")[0] for address in found} == {"127.0.0.1"}
    ports = [address.rpartition(":")[2] for address in found]
    assert len(ports) == len(set(ports))
    assert {"4317", "4318"} <= set(ports)


def test_traces_are_sampled_only_where_whole_traces_are_seen_and_by_what_the_daemon_keeps():
    assert "tail_sampling" in PIPELINES["traces"]["processors"]
    policies = {each["type"]: each for each in CONFIG["processors"]["tail_sampling"]["policies"]}
    assert policies["status_code"]["status_code"]["status_codes"] == ["ERROR"]
    assert (
        policies["latency"]["latency"]["threshold_ms"] == 2000
    )  # slow>2s, as the daemon's default
    assert policies["probabilistic"]["probabilistic"]["sampling_percentage"] == 1


def test_what_it_scrapes_is_where_the_examples_say_that_the_daemon_listens():
    (job,) = CONFIG["receivers"]["prometheus"]["config"]["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert f"listen: {target}" in (CHECKOUT / "configs" / "reference.yaml").read_text()
