from metrics_read import PLACE, lane, scraped, view
from streamfaas.telemetry.gauges import watch
from streamfaas.telemetry.instruments import Registry


def read(seen=None, *, per_partition=False):
    registry = Registry()
    watch(registry, per_partition=per_partition)
    return scraped(registry, seen)


def test_partitions_are_told_of_only_where_that_is_wanted():
    seen = view(lane("o-0"), lane("o-1", lag=7, age_seconds=9.0, state="blocked"), lane("o-2", lag=None, age_seconds=None))  # fmt: skip
    scrape = read(seen)
    assert not any("partition" in dict(labels) for _, labels in scrape.samples)
    assert scrape.of("streamfaas_source_lag", **PLACE) == 12
    assert scrape.of("streamfaas_source_age_seconds", **PLACE) == 9
    assert scrape.of("streamfaas_lane_blocked", **PLACE) == 1
    scrape = read(seen, per_partition=True)
    assert scrape.of("streamfaas_source_lag", **PLACE, partition="o-1") == 7
    assert scrape.of("streamfaas_lane_blocked", **PLACE, partition="o-0") == 0
    of_one = {name for name, labels in scrape.samples if ("partition", "o-2") in labels}
    assert of_one == {"streamfaas_lane_blocked"}


def test_what_is_held_by_key_has_no_label_of_its_own():
    """Keys of files and ids of requests have no end."""
    by_key = {"by_key": True, "state": "blocked", "lag": None, "age_seconds": None}
    seen = view(lane("0"), *(lane(f"some/file{at}", **by_key) for at in range(5)))
    scrape = read(seen, per_partition=True)
    assert scrape.of("streamfaas_lane_blocked", **PLACE, partition="") == 5
    assert scrape.of("streamfaas_lanes", **PLACE) == 1
    assert not any("some" in value for _, labels in scrape.samples for _, value in labels)


def test_workers_and_calls_that_wait_are_told_apart():
    scrape = read()
    assert scrape.of("streamfaas_workers", function="orders", state="busy") == 2
    assert scrape.of("streamfaas_calls_waiting", function="orders") == 3
    assert ("state", "waiting") not in {label for _, labels in scrape.samples for label in labels}


def test_the_backlog_is_what_waits_of_the_asynchronous_invocations():
    scrape = read(view(lane("0", lag=3), lane("1", lag=4)))
    assert scrape.of("streamfaas_backlog_events", function="orders") == 7


def test_what_no_collector_took_is_counted_by_signal():
    assert read().of("streamfaas_export_dropped_total", signal="traces") == 7


def test_what_the_kernel_says_of_the_process_is_there():
    scrape = read()
    assert 0 < scrape.of("process_open_fds") < scrape.of("process_max_fds")
    assert scrape.of("process_resident_memory_bytes") > 1 << 20
    assert scrape.of("process_cpu_seconds_total") > 0
    assert scrape.of("process_start_time_seconds") > 1.6e9
