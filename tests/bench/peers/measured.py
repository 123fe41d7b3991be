"""What a peer prints: from the first record that it was handed to the last one."""

import resource
import time


class Meter:
    """Call `start` when the first records are there, `stop` after the last."""

    def __init__(self):
        self.seconds = self.cpu = None
        self._cpu = time.process_time()

    def start(self):
        if self.seconds is None:
            self.seconds, self._cpu = time.perf_counter(), time.process_time()

    def report(self, records):
        seconds = time.perf_counter() - self.seconds
        cpu = time.process_time() - self._cpu
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print("measured", records, seconds, cpu, rss, flush=True)


class Ids:
    """Touches every value, as a handler would: the ids that it saw, as a count and a sum."""

    def __init__(self):
        self.count = self.total = 0

    def see(self, values):
        for value in values:
            self.total += len(value)
        self.count += len(values)
