"""What the HTML pages share: one style, one frame, and escaping."""

from __future__ import annotations

import html

STYLE = """
:root { --ink: #1c2330; --soft: #5b6575; --line: #dfe3ea; --ground: #f5f6f9; --card: #fff; --good: #1a7f4b;
        --part: #a66300; --bad: #b3261e; --open: #4a5fc1; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; margin: .75rem 0;
        padding: .9rem 1.1rem; }
.head { display: flex; gap: 1rem; align-items: baseline; justify-content: space-between; }
.head b { font-size: 1.05rem; } .points { white-space: nowrap; font-variant-numeric: tabular-nums; font-weight: 600; }
.good { color: var(--good); } .part { color: var(--part); } .bad { color: var(--bad); } .open { color: var(--open); }
.bar { height: .4rem; border-radius: .2rem; background: var(--line); margin: .5rem 0 .2rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: currentColor; }
ul.checks { list-style: none; margin: .6rem 0 0; padding: 0; }
ul.checks li { border-top: 1px solid var(--line); padding: .5rem 0 .5rem 1.7rem; position: relative; }
ul.checks li > .mark { position: absolute; left: 0; font-weight: 700; }
ul.checks .row { display: flex; justify-content: space-between; gap: 1rem; }
.numbers { font: .85rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--soft);
           overflow-wrap: anywhere; margin-top: .15rem; }
.diagnosis { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: .95rem; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top;
         overflow-wrap: anywhere; }
td.number, th.number, td.id { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; display: block; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""


def text(value: object) -> str:
    """Any text, a student's too, as text of a page; characters that cannot be written are replaced."""
    clean = str(value).encode("utf-8", "replace").decode("utf-8")
    return html.escape("".join(c if c.isprintable() or c == " " else "�" for c in clean))


def page(title: str, body: str) -> str:
    """A whole page, self-contained. `body` is markup; no script runs and nothing is loaded from elsewhere."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{text(title)}</title><style>{STYLE}</style></head><body><main>
{body}
</main></body></html>
"""


def level(score: float, points: float) -> str:
    """The colour of a score."""
    return "good" if score >= points else "part" if score > 0 else "bad"
