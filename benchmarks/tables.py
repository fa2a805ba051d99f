"""The tables, in Markdown, from what is kept in bench.json and NOTES.md and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

NOTES = Path(__file__).parent / "NOTES.md"
Results = dict[str, dict[str, Any]]  # by benchmark: date, machine, versions, load, and rows or why it was skipped


def time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def spread(values: dict[str, float], show: Any = lambda value: f"{value:.3g}") -> str:
    """Median and quartiles; the median alone where it stands for one measurement."""
    if values["low"] == values["high"]:
        return show(values["median"])
    return f"{show(values['median'])} [{show(values['low'])} .. {show(values['high'])}]"


def against(other: dict[str, Any] | None) -> str:
    return "" if other is None else f"{spread(other['ratio'])} x {other['name']}"


def goals(row: dict[str, Any]) -> str:
    """'met' or 'missed' with the goal, for each that the row has."""
    found = [row[kind] for kind in ("reference", "limit") if row[kind] and row[kind]["goal"] is not None]
    return ", ".join(f"{'met' if one['met'] else '**missed**'}: at most {one['goal']:.3g} x {one['name']}"
                     for one in found)


def speed_table(chosen: list[dict[str, Any]]) -> str:
    lines = ["| | setting | time | beside plain | beside the limit | goal | rounds |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {row['name']} | {row['setting']} | {spread(row['seconds'], time)} | {against(row['reference'])} | "
              f"{against(row['limit'])} | {goals(row)} | {row['rounds']} |"
              for row in chosen]
    return "\n".join(lines)


def growth_table(results: Results) -> str:
    lines = ["| cost against | of | seconds at each size | exponent |", "|---|---|---|---|"]
    lines += [f"| {row['name']} | {row['setting']} | "
              f"{', '.join(f'{size}: {time(seconds)}' for size, seconds in row['sizes'].items())} | "
              f"{spread(row['exponent'])} |" for row in rows(results) if row["sizes"]]
    return "\n".join(lines) if len(lines) > 2 else ""


def rows(results: Results) -> list[dict[str, Any]]:
    return [row for _, entry in sorted(results.items()) for row in entry.get("rows", [])]


def measured_on(results: Results) -> str:
    """Machine, versions, dates and load, a line for each machine."""
    lines = []
    for machine in sorted({where(entry) for entry in results.values()}):
        dates = sorted({entry["date"][:10] for entry in results.values() if where(entry) == machine})
        load = max(entry["load"] for entry in results.values() if where(entry) == machine)
        lines.append(f"Measured on {machine}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, load at the start "
                     f"of a benchmark at most {load:.1f}.")
    lines += [f"Not measured: {name} ({entry['skipped']})." for name, entry in sorted(results.items())
              if "skipped" in entry]
    lines += [f"Interrupted: {name}, after {len(entry['rows'])} rows." for name, entry in sorted(results.items())
              if "unfinished" in entry]
    return "\n".join(lines)


def where(entry: dict[str, Any]) -> str:
    machine = entry["machine"]
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return (f"{machine['processor']}, {machine['cores']} cores, threads: {machine['threads']}{gpu}; "
            f"{', '.join(f'{name} {version}' for name, version in sorted(entry['versions'].items()))}")


LEGEND = ("Median [quartiles] over rounds; a ratio below 1 is faster. A run on a GPU has another seed in each round: "
          "where that is one, its accuracy is of a single seed.")


def page_table(results: Results) -> str:
    """What has a goal, for docs/speed.md."""
    return "\n\n".join([speed_table([row for row in rows(results) if goals(row)]), measured_on(results), LEGEND])


def tables(results: Results) -> str:
    """Everything that was measured."""
    quick = "**A smoke test with tiny sizes: no measurement.**" if any(e["quick"] for e in results.values()) else ""
    speeds = speed_table([row for row in rows(results) if not row["sizes"]])
    return "\n\n".join(part for part in (quick, speeds, growth_table(results), measured_on(results), LEGEND) if part)


def notes() -> dict[str, str]:
    """{row name: paragraph} of NOTES.md."""
    parts = re.split(r"^## (.+)\n", NOTES.read_text(), flags=re.MULTILINE)
    return {name: paragraph.strip() for name, paragraph in zip(parts[1::2], parts[2::2], strict=True)}


def document(results: Results) -> str:
    """The tables, and for each row where the rest of its time goes: the profile's shares and the paragraph."""
    parts = ["# How fast", tables(results), "## Where the time goes"]
    for name in dict.fromkeys(row["name"] for row in rows(results)):
        parts.append(f"**{name}.** {notes().get(name, '')}".strip())
        shares = [f"- {row['setting']}: " + ", ".join(f"`{part}` {share:.0%}" for part, share in row["profile"])
                  for row in rows(results) if row["name"] == name and row["profile"]]
        parts += ["\n".join(shares)] if shares else []
    return "\n\n".join(parts) + "\n"
