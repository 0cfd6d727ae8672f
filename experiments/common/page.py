"""A web page in one file: nothing is fetched; it fits phone and wide screen, light and dark."""

import base64
import html
from collections.abc import Collection, Mapping, Sequence

STYLE = """
:root { color-scheme: light dark; --ink: #22272e; --quiet: #5c6672; --rule: #d7dce1;
  --paper: #ffffff; --card: #f5f7f9; --accent: #1f6fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --quiet: #9aa5b1; --rule: #3a424c;
  --paper: #16191d; --card: #1f242a; --accent: #6cb2eb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem;
  background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.6rem; border-top: 1px solid var(--rule);
  padding-top: 1rem; }
p, .note { color: var(--quiet); margin: 0.4rem 0; max-width: 46rem; }
.row { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; background: var(--card); border-radius: 0.5rem; padding: 0.8rem; }
figcaption { color: var(--quiet); font-size: 0.9rem; margin-top: 0.5rem; }
img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem;
  width: 100%; }
th, td { text-align: left; padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid var(--rule);
  white-space: nowrap; vertical-align: top; }
th.number, td.number { text-align: right; }
th { color: var(--quiet); font-weight: 600; }
td.text { white-space: normal; min-width: 14rem; }
.wide + .wide { margin-top: 1.2rem; }
.key { display: grid; gap: 0.8rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.key div { background: var(--card); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
.key b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums;
  color: var(--accent); }
.key span { color: var(--quiet); font-size: 0.85rem; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
pre { background: var(--card); padding: 0.8rem; border-radius: 0.5rem; overflow-x: auto;
  font-size: 0.82rem; line-height: 1.4; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document.

    Args:
        title: as plain text.
        parts: HTML of the body, in order.
    """
    shown = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{shown}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading and what follows it; empty parts are left out, and so is an empty section."""
    filled = [part for part in parts if part]
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(filled) if filled else ""


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def row(*cards: str) -> str:
    """Figures side by side, one below the other where the screen is narrow."""
    return f'<div class="row">{"".join(cards)}</div>' if any(cards) else ""


def picture(png: bytes, alt: str, caption: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def chart(svg: str, caption: str) -> str:
    """An SVG element of :func:`jaxdiff.plots.as_svg` inside the page."""
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(
    rows: Sequence[Sequence[str]],
    *,
    headings: Sequence[str] = (),
    numbers: Collection[int] = (),
    texts: Collection[int] = (),
) -> str:
    """A table that scrolls sideways where it does not fit.

    Args:
        rows: of the same number of cells.
        headings: of the columns, if they have any.
        numbers: columns that are aligned to the right.
        texts: columns whose lines are broken.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = dict.fromkeys(numbers, "number") | dict.fromkeys(texts, "text")
        made = (
            f'<{tag} class="{kinds.get(index, "plain")}">{html.escape(cell)}</{tag}>'
            for index, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"

    head = f"<thead>{line(headings, 'th')}</thead>\n" if headings else ""
    body = "\n".join(line(cells, "td") for cells in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def key_figures(figures: Mapping[str, str]) -> str:
    """The few numbers that matter, large: ``{what: value}``."""
    cards = (
        f"<div><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>"
        for what, value in figures.items()
    )
    return f'<div class="key">{"".join(cards)}</div>' if figures else ""


def folded(summary: str, text: str) -> str:
    """Preformatted text that is opened by a click."""
    return (
        f"<details><summary>{html.escape(summary)}</summary>"
        f"<pre>{html.escape(text)}</pre></details>"
    )
