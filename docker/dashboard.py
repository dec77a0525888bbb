"""The Grafana dashboard's queries: read from its file, asked as Grafana would ask, and drawn."""

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent
DASHBOARD = FOLDER / "grafana" / "dashboards" / "honestface.json"
#: Grafana's $__rate_interval for the scrape interval of 10 s.
RATE_INTERVAL_S = 40
#: Seconds and samples of the picture's time axis.
SPAN_S, STEP_S = 90, 2
#: What Grafana's units look like on an axis; seconds and bytes take prefixes.
_UNITS = {"short": "", "reqps": "/s", "ops": "/s", "s": "s", "bytes": "B", "percentunit": ""}
_PREFIXED = ("s", "bytes")


@dataclass(frozen=True)
class Query:
    """One line of a panel; `expression` has no variables left."""

    panel: str
    kind: str
    unit: str
    expression: str
    legend: str


def queries() -> Iterator[Query]:
    """Every query of the dashboard."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", f"{RATE_INTERVAL_S}s").replace("$instance", ".*")
            unit = panel["fieldConfig"]["defaults"]["unit"]
            yield Query(panel["title"], panel["type"], unit, expression, target["legendFormat"])


class Prometheus:
    """Prometheus' HTTP interface.

    Every method raises httpx.HTTPStatusError when Prometheus refuses a query.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url + "/api/v1/", timeout=30)

    def get(self, path: str, **parameters: object) -> Any:
        response = self._http.get(path, params={name: str(value) for name, value in parameters.items()})
        response.raise_for_status()
        return response.json()["data"]

    def values(self, expression: str) -> list[float]:
        """What a query gives now, without what is not a number."""
        found = [float(each["value"][1]) for each in self.get("query", query=expression)["result"]]
        return [value for value in found if math.isfinite(value)]

    def lines(self, query: Query) -> list[tuple[str, list[float], list[float]]]:
        """A panel's lines over the last seconds: legend, seconds before now, values."""
        now = time.time()
        series = self.get("query_range", query=query.expression, start=now - SPAN_S, end=now, step=STEP_S)["result"]
        return [
            (
                re.sub(r"{{(\w+)}}", lambda label, of=each: of["metric"].get(label[1], ""), query.legend),
                [float(at) - now for at, _ in each["values"]],
                [float(value) for _, value in each["values"]],
            )
            for each in series
        ]


def draw(prometheus: Prometheus, path: Path) -> None:
    """Draws the dashboard's time series as Grafana lays them out, three in a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    panels: dict[str, list[Query]] = {}
    for query in queries():
        if query.kind == "timeseries":
            panels.setdefault(query.panel, []).append(query)
    figure, axes = pyplot.subplots(math.ceil(len(panels) / 3), 3, figsize=(16, 14), layout="constrained")
    for axis, (title, asked) in zip(axes.flat, panels.items(), strict=False):
        for query in asked:
            for legend, seconds, values in prometheus.lines(query):
                axis.plot(seconds, values, label=legend, linewidth=1.4)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
        unit = _UNITS[asked[0].unit]
        axis.yaxis.set_major_formatter(
            EngFormatter(unit) if asked[0].unit in _PREFIXED else StrMethodFormatter("{x:g}" + unit)
        )
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7, loc="best", framealpha=0.5)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    figure.suptitle("The dashboard's queries, answered by Prometheus, over the last 90 seconds")
    figure.savefig(path, dpi=70)
