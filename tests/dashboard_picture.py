"""Draws the overview dashboard as a picture, out of what a real Prometheus scraped of a real daemon in
whose run something goes wrong: `python tests/dashboard_picture.py`. It takes five minutes.

There is no Grafana in it: layout, titles, units, colours and expressions are those of the dashboard's
own JSON, and the numbers are answers of `query_range`.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from daemon_process import DaemonProcess, write_project
from prometheus_server import Prometheus
from server_process import free_port

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
PICTURE = DEPLOY / "grafana" / "overview.png"

SECONDS, FAILS_FROM, FAILS_UNTIL = 270, 80, 165
STEP = 2
RATE = "10s"

# -- what is run

PAYMENTS = """
import os, random, time

FROM, UNTIL = float(os.environ["FAILS_FROM"]), float(os.environ["FAILS_UNTIL"])

def main(event, context):
    if FROM <= time.time() <= UNTIL:
        raise ConnectionError("payments.internal:443 refused the connection")
    count = sum(map(len, event["records"].values()))
    time.sleep(0.004 + 0.0008 * count * random.uniform(0.7, 1.3))
"""
ORDERS = """
import random, time

def main(event, context):
    time.sleep(random.lognormvariate(-4.2, 0.6))
    for records in event["records"].values():
        if any(record["offset"] % 9000 == 4321 for record in records):
            raise ValueError("an order without a total")
"""
THUMBNAILS = """
import random, time

def main(event, context):
    time.sleep(random.lognormvariate(-1.8, 0.5))
"""
CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 1s}
telemetry: {metrics: {listen: "127.0.0.1:PORT", per_partition: true}}
functions:
  orders:
    code: orders
    handler: app.main
    timeout: 10s
    triggers:
      stream:
        type: memory
        topic: orders
        partitions: 3
        rate: 400
        batch: {size: 100, window: 300ms}
        filter: [{value: {total: [{numeric: [">", 20]}]}}]
        retries: {max: 2, backoff: 200ms..1s}
        on_failure: {type: file, path: dead.jsonl}
  payments:
    code: payments
    handler: app.main
    timeout: 10s
    env: {FAILS_FROM: "<from>", FAILS_UNTIL: "<until>"}
    triggers:
      stream:
        type: memory
        topic: payments
        partitions: 2
        rate: 250
        batch: {size: 200, window: 300ms}
        retries: {backoff: 500ms..4s}
  thumbnails:
    code: thumbnails
    handler: app.main
    timeout: 10s
    concurrency: {warm: 2, max: 4}
    triggers:
      stream: {type: memory, topic: thumbnails, partitions: 4, rate: 12, batch: {size: 1}}
"""


def scraped(folder: Path) -> dict[str, Any]:
    """The answers to every expression of the overview, by the expression."""
    port = free_port()
    began = time.time()
    config = CONFIG.replace("PORT", str(port))
    config = config.replace("<from>", str(began + FAILS_FROM))
    config = config.replace("<until>", str(began + FAILS_UNTIL))
    path = write_project(folder, config, orders=ORDERS, payments=PAYMENTS, thumbnails=THUMBNAILS)
    asked = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    asked = asked.replace("127.0.0.1:9464", f"127.0.0.1:{port}").replace("15s", "1s")
    asked = asked.replace("rules.yml", str(DEPLOY / "prometheus" / "rules.yml"))
    with DaemonProcess(path, "--quiet") as daemon, Prometheus(folder, asked) as prometheus:
        daemon.wait_ready()
        while (left := began + SECONDS - time.time()) > 0:
            time.sleep(min(left, 1.0))
        return answers(prometheus, began + 15, began + SECONDS)


def answers(prometheus: Prometheus, start: float, end: float) -> dict[str, Any]:
    board = json.loads((DEPLOY / "grafana" / "overview.json").read_text())
    wanted = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    wanted.append(board["annotations"]["list"][0]["expr"])
    told: dict[str, Any] = {"start": start, "end": end}
    for expression in dict.fromkeys(wanted):
        asked = expression.replace("$__rate_interval", RATE).replace("$job", "streamfaas")
        asked = asked.replace("$function", ".*")
        told[expression] = prometheus.ask("query_range", query=asked, start=start, end=end, step=STEP)["result"]  # fmt: skip
    return told


# -- how it is drawn: twice as large, then made small, which makes lines smooth

SCALE = 2
WIDE, UNIT, GAP, HEAD = 1560, 30, 8, 52
BACK, PANEL, EDGE, TEXT, DIM, GRID = (
    "#111217",
    "#181b1f",
    "#2c3235",
    "#d8d9da",
    "#8e9297",
    "#26292f",
)
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#f2495c", "#8ab8ff", "#96d98d")


@dataclass(frozen=True)
class Line:
    name: str
    colour: str
    points: Mapping[float, float]

    @property
    def last(self) -> float:
        return self.points[max(self.points)] if self.points else math.nan


class Canvas:
    """Drawn on in the pixels of the picture, whatever it is scaled by."""

    def __init__(self, wide: int, high: int) -> None:
        self.image = Image.new("RGB", (wide * SCALE, high * SCALE), BACK)
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._fonts: dict[float, Any] = {}

    def box(
        self, x: float, y: float, w: float, h: float, fill: str, edge: str | None = None
    ) -> None:
        at = [each * SCALE for each in (x, y, x + w, y + h)]
        self._draw.rounded_rectangle(at, 3 * SCALE, fill, edge, SCALE)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.3) -> None:
        if len(points) > 1:
            at = [(x * SCALE, y * SCALE) for x, y in points]
            self._draw.line(at, colour, round(width * SCALE), joint="curve")

    def area(self, points: Sequence[tuple[float, float]], colour: str, alpha: int) -> None:
        if len(points) > 2:
            red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
            self._draw.polygon(
                [(x * SCALE, y * SCALE) for x, y in points], (red, green, blue, alpha)
            )

    def text(self, x: float, y: float, text: str, size: float, colour: str = TEXT, anchor: str = "la") -> None:  # fmt: skip
        self._draw.text((x * SCALE, y * SCALE), text, colour, self._font(size), anchor)

    def width(self, text: str, size: float) -> float:
        return self._font(size).getlength(text) / SCALE

    def _font(self, size: float) -> Any:
        return self._fonts.setdefault(size, ImageFont.load_default(size * SCALE))


def draw(told: Mapping[str, Any]) -> Image.Image:
    board = json.loads((DEPLOY / "grafana" / "overview.json").read_text())
    high = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * UNIT
    canvas = Canvas(WIDE + GAP, high + HEAD)
    canvas.text(14, HEAD / 2, board["title"], 17, anchor="lm")
    canvas.text(WIDE - 6, HEAD / 2, "scraped from a run in which payments cannot be reached for 85 s",
                12, DIM, "rm")  # fmt: skip
    alerts = told[board["annotations"]["list"][0]["expr"]]
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, w = GAP + place["x"] * WIDE / 24, place["w"] * WIDE / 24 - GAP
        y, h = HEAD + place["y"] * UNIT, place["h"] * UNIT - GAP
        canvas.box(x, y, w, h, PANEL, EDGE)
        canvas.text(x + 10, y + 8, panel["title"], 12)
        if panel["type"] == "stat":
            _stat(canvas, panel, told, (x, y, w, h))
        else:
            _graph(canvas, panel, told, alerts, (x, y, w, h))
    return canvas.image.resize((WIDE + GAP, high + HEAD), Image.Resampling.LANCZOS)


Box = tuple[float, float, float, float]


def _stat(canvas: Canvas, panel: Any, told: Mapping[str, Any], box: Box) -> None:
    x, y, w, h = box
    defaults = panel["fieldConfig"]["defaults"]
    series = told[panel["targets"][0]["expr"]]
    value = float(series[0]["values"][-1][1]) if series else math.nan
    colour = DIM
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    text = "-" if math.isnan(value) else shown(value, defaults["unit"])
    canvas.text(x + w / 2, y + h / 2 + 10, text, 30, colour, "mm")


def _graph(canvas: Canvas, panel: Any, told: Mapping[str, Any], alerts: Any, box: Box) -> None:
    x, y, w, h = box
    lines = list(_lines(panel, told))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    tops = _stacked(lines) if stacked else [line.points for line in lines]
    highest = max((value for each in tops for value in each.values()), default=0.0)
    step = step_of(highest / 2**20) * 2**20 if unit == "bytes" else step_of(highest)
    most = max(step, math.ceil(highest / step) * step)
    left, top, right, bottom = x + 52, y + 32, x + w - 10, y + h - 44
    start, end = told["start"], told["end"]

    def at(moment: float, value: float) -> tuple[float, float]:
        return (
            left + (moment - start) / (end - start) * (right - left),
            bottom - value / most * (bottom - top),
        )

    for count in range(round(most / step) + 1):
        _, level = at(start, count * step)
        canvas.line([(left, level), (right, level)], GRID, 1)
        canvas.text(left - 6, level, shown(count * step, unit), 10, DIM, "rm")
    for moment in range(math.ceil(start / 60) * 60, int(end), 60):
        across, _ = at(moment, 0)
        canvas.line([(across, top), (across, bottom)], GRID, 1)
        canvas.text(across, bottom + 5, time.strftime("%H:%M", time.gmtime(moment)), 10, DIM, "ma")
    for moment in sorted({float(each["values"][0][0]) for each in alerts}):
        across, _ = at(moment, 0)
        canvas.line([(across, top), (across, bottom)], "#e02f44", 1)
        canvas.area([(across - 4, bottom + 5), (across + 4, bottom + 5), (across, bottom - 1)], "#e02f44", 255)  # fmt: skip
    below: Mapping[float, float] = {}
    for line, upper in zip(lines, tops, strict=True):
        for stretch in _stretches(upper):
            edge = [at(moment, upper[moment]) for moment in stretch]
            floor = [
                at(moment, below.get(moment, 0.0) if stacked else 0.0)
                for moment in reversed(stretch)
            ]
            canvas.area(edge + floor, line.colour, 120 if stacked else 22)
            canvas.line(edge, line.colour)
        below = upper
    _legend(canvas, lines, x + 12, y + h - 20, right)


def _lines(panel: Any, told: Mapping[str, Any]) -> Iterator[Line]:
    chosen = {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
    }
    count = 0
    for target in panel["targets"]:
        for series in told[target["expr"]]:
            name = target["legendFormat"]
            for label, value in series["metric"].items():
                name = name.replace("{{%s}}" % label, value)  # noqa: UP031 - braces
            points = {float(moment): float(value) for moment, value in series["values"]}
            points = {moment: value for moment, value in points.items() if not math.isnan(value)}
            if points and not (name.endswith("/asynchronous") and not any(points.values())):
                yield Line(name, chosen.get(name, PALETTE[count % len(PALETTE)]), points)
                count += 1


def _stacked(lines: Sequence[Line]) -> list[Mapping[float, float]]:
    tops: list[Mapping[float, float]] = []
    for line in lines:
        under = tops[-1] if tops else {}
        tops.append({at: value + under.get(at, 0.0) for at, value in line.points.items()})
    return tops


def _stretches(points: Mapping[float, float]) -> Iterator[list[float]]:
    """The moments without a gap between them."""
    stretch: list[float] = []
    for moment in sorted(points):
        if stretch and moment - stretch[-1] > STEP * 1.5:
            yield stretch
            stretch = []
        stretch.append(moment)
    yield stretch


def _legend(canvas: Canvas, lines: Sequence[Line], x: float, y: float, right: float) -> None:
    for line in lines:
        wide = canvas.width(line.name, 10.5)
        if x + wide + 18 > right:
            canvas.text(x, y, "…", 10.5, DIM)
            return
        canvas.box(x, y + 4, 10, 4, line.colour)
        canvas.text(x + 15, y, line.name, 10.5, TEXT)
        x += wide + 30


def step_of(highest: float) -> float:
    """A round number, of which four or five reach the highest value."""
    if highest <= 0:
        return 1.0
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)


def shown(value: float, unit: str) -> str:
    """A number as Grafana writes it."""
    match unit:
        case "percentunit":
            return f"{value * 100:.3g}%"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
        case "s" if 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        case "s":
            return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
    suffix = {"cps": " c/s", "ops": " ops/s"}.get(unit, "")
    return (f"{value / 1000:.3g} K" if value >= 1000 else f"{value:.3g}") + suffix


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case []:
            with tempfile.TemporaryDirectory() as folder:
                told = scraped(Path(folder))
        case ["--keep", path]:
            with tempfile.TemporaryDirectory() as folder:
                told = scraped(Path(folder))
            Path(path).write_text(json.dumps(told))
        case ["--draw", path]:
            told = json.loads(Path(path).read_text())
        case _:
            print("usage: dashboard_picture.py [--keep FILE | --draw FILE]", file=sys.stderr)
            return 2
    draw(told).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
