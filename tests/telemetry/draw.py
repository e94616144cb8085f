"""Draws each dashboard from its JSON and the data of a Prometheus: one picture each.

draw.py ADDRESS START END FOLDER [--step 5] [--source NAME] [--interval 30s]

It asks for each panel's own expressions and draws them at the panel's own place. It is no Grafana: panels of
Tempo show their search, and stacking, colours and scales are simpler.
"""

import argparse
import re
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as pyplot
from matplotlib.ticker import FuncFormatter

import queries

ROWS_PER_INCH = 3.0
COLUMNS_PER_INCH = 1.25
LEGEND = 6
COLORS = {"green": "#299c46", "orange": "#ed8128", "red": "#d44a3a"}


def short(value):
    """A number with at most four characters and a prefix."""
    for bound, suffix in [(1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if abs(value) >= bound:
            return f"{value / bound:.3g}{suffix}"
    return f"{value:.3g}"


def seconds(value):
    if abs(value) >= 172800:
        return f"{value / 86400:.3g} d"
    if abs(value) >= 7200:
        return f"{value / 3600:.3g} h"
    if abs(value) >= 120:
        return f"{value / 60:.3g} min"
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"


def formatted(unit):
    """How values of Grafana's unit are written."""
    if unit == "s":
        return seconds
    if unit == "ms":
        return lambda value: seconds(value / 1000)
    if unit == "percentunit":
        return lambda value: f"{value * 100:.4g} %"
    if unit == "bytes":
        return lambda value: f"{short(value)}B"
    if unit == "dateTimeFromNow":
        return lambda value: f"{datetime.fromtimestamp(value / 1000, timezone.utc):%H:%M:%S}" if value else "never"
    if unit.startswith("suffix:"):
        return lambda value: f"{short(value)} {unit.removeprefix('suffix:').strip()}"
    suffix = {"reqps": " req/s", "ops": " /s"}.get(unit, "")
    return lambda value: f"{short(value)}{suffix}"


def legend(pattern, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found.group(1), ""), pattern).strip()


def asked(panel, options):
    """Each series of a panel: its legend, its times and its values."""
    span = f"{max(1, int(options.end - options.start))}s"
    for target in panel["targets"]:
        query = queries.substitute(target["expr"], options.source, options.interval, span)
        for one in queries.query_range(options.address, query, options.start, options.end, options.step):
            times = [datetime.fromtimestamp(float(at), timezone.utc) for at, _ in one["values"]]
            values = [float(value) for _, value in one["values"]]
            yield legend(target["legendFormat"], one["metric"]), times, values


def title(axes, panel):
    axes.set_title("\n".join(textwrap.wrap(panel["title"], 58)), fontsize=9, loc="left", fontweight="bold")


def words(axes, text, color="black", size=9):
    axes.set_axis_off()
    axes.text(0.02, 0.9, text, va="top", fontsize=size, color=color, transform=axes.transAxes)


def stat(axes, panel, series):
    defaults = panel["fieldConfig"]["defaults"]
    write = formatted(defaults["unit"])
    axes.set_axis_off()
    if not series:
        words(axes, "no data", "#888888", 14)
    for index, (name, _, values) in enumerate(series[:4]):
        steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or values[-1] >= step["value"]]
        color = COLORS.get(steps[-1]["color"], "black")
        y = 0.85 - 0.24 * index
        axes.text(0.02, y, write(values[-1]), fontsize=17, color=color, va="top", transform=axes.transAxes)
        axes.text(0.6, y - 0.03, name, fontsize=8, va="top", transform=axes.transAxes)


def lines(axes, panel, series, options):
    defaults = panel["fieldConfig"]["defaults"]
    write = formatted(defaults["unit"])
    alone = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        if any(one["id"] == "custom.stacking" for one in override["properties"])
    }
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    base, number = {}, 0
    for name, times, values in series:
        label = f"{name}  {write(values[-1])}" if number < LEGEND else None
        color = f"C{number % 10}"
        number += 1
        if stacked and name not in alone:
            low = [base.get(at, 0.0) for at in times]
            high = [below + (value if value == value else 0.0) for below, value in zip(low, values)]
            base.update(zip(times, high))
            axes.fill_between(times, low, high, alpha=0.35, color=color, linewidth=0)
            axes.plot(times, high, linewidth=1, color=color, label=label)
        else:
            width = 2.2 if name in alone else 1.1
            axes.plot(times, values, linewidth=width, color="black" if name in alone else color, label=label)
    axes.set_xlim(*(datetime.fromtimestamp(at, timezone.utc) for at in (options.start, options.end)))
    bottom, top = axes.get_ylim()
    axes.set_ylim(defaults.get("min", bottom), max(top * 1.05, 1e-9) if "max" not in defaults else defaults["max"])
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is not None and axes.get_ylim()[0] <= step["value"] <= axes.get_ylim()[1]:
            axes.axhline(step["value"], color=COLORS.get(step["color"], "grey"), linewidth=0.8, linestyle="--")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.25)
    if series:
        more = len(series) - LEGEND
        note = f"and {more} more" if more > 0 else None
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncol": 2, "frameon": False}
        axes.legend(fontsize=6, title=note, title_fontsize=6, **place)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", color="#888888", transform=axes.transAxes)


def draw(name, options):
    dashboard = queries.load(name)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    inches = (24 / COLUMNS_PER_INCH, height / ROWS_PER_INCH + 0.6)
    figure = pyplot.figure(figsize=inches)
    head = 0.6 / inches[1]
    begin, end = (datetime.fromtimestamp(at, timezone.utc) for at in (options.start, options.end))
    text = f"{dashboard['title']}: drawn from the dashboard's JSON, not by Grafana. {begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"
    figure.text(0.01, 1 - head / 2, text, fontsize=11)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        row = (1 - head) / height
        left, bottom = place["x"] / 24, 1 - head - (place["y"] + place["h"]) * row
        if panel["type"] == "row":
            figure.text(0.01, bottom + 0.3 * row, panel["title"], fontsize=10, fontweight="bold", color="#3057a6")
            continue
        box = [left + 0.042, bottom + 2.2 * row, place["w"] / 24 - 0.052, (place["h"] - 3.6) * row]
        axes = figure.add_axes(box)
        title(axes, panel)
        if panel["datasource"]["type"] == "tempo":
            words(axes, "a search in Tempo:\n" + "\n".join(textwrap.wrap(panel["targets"][0]["query"], 80)))
        elif panel["type"] == "stat":
            stat(axes, panel, list(asked(panel, options)))
        else:
            lines(axes, panel, list(asked(panel, options)), options)
    path = Path(options.folder) / f"{name}.png"
    figure.savefig(path, dpi=options.dpi)
    pyplot.close(figure)
    print(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("start", type=float)
    parser.add_argument("end", type=float)
    parser.add_argument("folder")
    parser.add_argument("--step", type=float, default=5)
    parser.add_argument("--source", default="codes")
    parser.add_argument("--interval", default="30s")
    parser.add_argument("--dpi", type=int, default=70)
    options = parser.parse_args()
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    for name in queries.NAMES:
        draw(name, options)


if __name__ == "__main__":
    main()
