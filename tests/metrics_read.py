"""Metrics as somebody else's parser reads them: by name and labels; and a view to read some from."""

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as prometheus

from streamfaas.telemetry.exposition import exposition
from streamfaas.telemetry.process import usage

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape:
    """All samples of an exposition. `types` are the families with their kinds."""

    def __init__(self, body, content_type=""):
        text = body.decode()
        parser = openmetrics if "openmetrics" in content_type else prometheus
        families = list(parser.text_string_to_metric_families(text))
        self.types = {family.name: family.type for family in families}
        samples = [sample for family in families for sample in family.samples]
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value for sample in samples
        }
        assert len(self.samples) == len(samples), "a series is there twice"

    def of(self, name, **labels):
        return self.samples[name, frozenset(labels.items())]

    def all(self, name, **labels):
        wanted = set(labels.items())
        return {
            dict(found).get("outcome", ""): value
            for (each, found), value in self.samples.items()
            if each == name and wanted <= found
        }

    def balance(self, **place):
        """What came, and what has become of it: they are the same, exactly."""
        received = self.of("messaging_client_consumed_messages_total", **place)
        outcomes = self.all("streamfaas_records_total", **place)
        in_flight = self.of("streamfaas_records_in_flight", **place)
        assert set(outcomes) == {"succeeded", "failed", "filtered", "expired", "given_back"}
        assert received == sum(outcomes.values()) + in_flight
        assert min(in_flight, *outcomes.values()) >= 0
        return received, outcomes, in_flight


# -- what is scraped of a daemon that looks like this

PLACE = {"function": "orders", "trigger": "stream"}


def lane(name, **more):
    return {"name": name, "by_key": False, "state": "running", "lag": 5, "age_seconds": 1.5, **more}


def view(*lanes, **counts):
    zero = dict.fromkeys(
        ("received", "records", "set_aside", "filtered", "expired", "given_back"), 0
    )
    trigger = {"state": "running", "paused": None, "lanes": lanes, **zero, **counts}
    workers = {"starting": 0, "idle": 1, "spare": 0, "busy": 2, "draining": 0, "waiting": 3}
    return {
        "version": "1.0",
        "functions": {"orders": {"workers": workers, "waiting": 3}},
        "triggers": {"orders/stream": trigger, "orders/asynchronous": trigger},
        "process": usage(),
        "export": {"traces": {"dropped": 7}},
    }


def scraped(registry, seen=None):
    body = exposition(registry, seen or view(), openmetrics=True)
    return Scrape(body, OPENMETRICS)
