"""The report's paper: one HTML page with its style and its few lines of script inside, and the pieces to fill it.

Everything that comes from outside goes through `text`; pieces are strings of HTML.
"""

import html
from collections.abc import Sequence

STYLE = """
:root{--ink:#1b2430;--soft:#5b6676;--line:#e3e7ec;--paper:#fff;--wash:#f5f7f9;--main:#0b6e69;--warn:#9a3412}
*{box-sizing:border-box}
body{margin:0;background:var(--wash);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header>div{max-width:1240px;margin:0 auto;padding:0 24px}
header{background:#0f2a33;color:#fff;padding:30px 0 26px}
header p{margin:.3em 0 0;color:#c4d3d8}
h1{margin:0;font-size:27px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 4px}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:20px 22px;margin:18px 0}
.note{color:var(--soft);margin:2px 0 12px;max-width:88ch}
.warn{background:#fff4e5;border:1px solid #f3c892;color:var(--warn);border-radius:8px;padding:10px 14px;margin:14px 0 0}
.chips{display:flex;flex-wrap:wrap;gap:8px;margin-top:14px}
.chip{border:1px solid #36525c;border-radius:99px;padding:2px 12px;font-size:13px;color:#dbe6e9}
.chip b{color:#fff;font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin-top:18px}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.card .label{color:var(--soft);font-size:13px}
.card .value{font-size:23px;font-weight:650;letter-spacing:-.02em;white-space:nowrap}
.card .under{color:var(--soft);font-size:13px}
.columns{display:grid;margin:18px 0;grid-template-columns:repeat(2,minmax(0,1fr));gap:18px}
.columns section{margin:0}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-size:13.5px;min-width:100%;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600;text-align:left;white-space:nowrap;border-bottom:2px solid var(--line);padding:6px 10px 6px 0}
td{border-bottom:1px solid var(--line);padding:7px 10px 7px 0;vertical-align:top;white-space:nowrap}
td.wrap{white-space:normal;min-width:120px}td.wrap code{overflow-wrap:anywhere}
td small{color:var(--soft);font-size:12px;display:block}
table.heat td,table.heat th{text-align:center;padding:6px 8px;border:2px solid var(--paper)}
table.heat th:first-child,table.heat td:first-child{text-align:left;white-space:nowrap}
.tag{display:inline-block;border-radius:4px;padding:0 6px;font-size:12px;line-height:18px}
.measured{background:#d9f2ec;color:#0b5c56}.predicted{background:#fdebd0;color:#8a4b08}
code{background:var(--wash);border:1px solid var(--line);border-radius:5px;padding:1px 6px;font:12.5px ui-monospace,Menlo,Consolas,monospace}
button.copy{border:1px solid var(--line);background:#fff;border-radius:5px;cursor:pointer;font-size:12px;padding:1px 8px;color:var(--main)}
select{font:inherit;padding:4px 8px;border:1px solid var(--line);border-radius:6px;max-width:100%;background:#fff}
ul{padding-left:20px;margin:8px 0}
li{margin:3px 0}
details summary{cursor:pointer;color:var(--main)}
footer{color:var(--soft);font-size:13px;padding:6px 0 40px}
@media(max-width:820px){.columns{grid-template-columns:minmax(0,1fr)}main,header>div{padding:0 12px}section{padding:16px 12px}
h1{font-size:21px}.cards{grid-template-columns:repeat(2,minmax(0,1fr))}.card .value{font-size:19px}}
"""  # noqa: E501

SCRIPT = """
document.addEventListener('click',e=>{const b=e.target.closest('button.copy');if(!b)return;
const done=()=>{const t=b.textContent;b.textContent='copied';setTimeout(()=>b.textContent=t,1200)};
const c=b.dataset.text;if(navigator.clipboard&&window.isSecureContext)navigator.clipboard.writeText(c).then(done);
else{const a=document.createElement('textarea');a.value=c;document.body.append(a);a.select();document.execCommand('copy');a.remove();done()}});
document.addEventListener('change',e=>{if(!e.target.matches('select[data-group]'))return;
document.querySelectorAll(`[data-of="${e.target.dataset.group}"]`).forEach(n=>{n.hidden=n.id!==e.target.value})});
"""  # noqa: E501


def escape_html(value: object) -> str:
    """Any value as text that HTML shows as it is."""
    return html.escape(str(value))


def page(*, title: str, header: str, body: str, scripts: str) -> str:
    """The whole page.

    Args:
        title: of the window, plain text.
        header: HTML of the head's band.
        body: HTML of everything below it.
        scripts: JavaScript that must run before the body's own, for example plotly's.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape_html(title)}</title><style>{STYLE}</style>"
        f'<script type="text/javascript">{scripts}</script></head>\n'
        f"<body><header><div>{header}</div></header>\n<main>{body}</main>\n<script>{SCRIPT}</script></body></html>\n"
    )


def section(title: str, note: str, *content: str) -> str:
    """A framed part of the page; `note` and `content` are HTML, the title is plain text."""
    return f'<section><h2>{escape_html(title)}</h2><p class="note">{note}</p>{"".join(content)}</section>\n'


def side_by_side(*sections: str) -> str:
    """Sections side by side, below each other on a narrow screen."""
    return f'<div class="columns">{"".join(sections)}</div>\n'


def chips(facts: Sequence[tuple[str, str]]) -> str:
    """Small labelled facts for the head."""
    return (
        '<div class="chips">'
        + "".join(f'<span class="chip">{escape_html(name)} <b>{escape_html(value)}</b></span>' for name, value in facts)
        + "</div>"
    )


def cards(figures: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: (label, value, what stands under it), plain text."""
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><div class="label">{escape_html(label)}</div><div class="value">{escape_html(value)}</div>'
            f'<div class="under">{escape_html(under)}</div></div>'
            for label, value, under in figures
        )
        + "</div>"
    )


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, wrap: Sequence[int] = ()) -> str:
    """A table that scrolls sideways. Head is plain text, cells are HTML; columns in `wrap` may break lines."""
    titles = "".join(f"<th>{escape_html(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td{' class=wrap' if i in wrap else ''}>{c}</td>" for i, c in enumerate(row)) + "</tr>"
        for row in body
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def heatmap_table(
    corner: str, head: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """A table of shaded cells.

    Args:
        corner: plain text of the upper left cell.
        head: titles of the columns.
        names: titles of the rows.
        cells: for each row its cells: text, and depth of the shade 0..1; NaN leaves a cell without shade.
    """
    titles = "".join(f"<th>{escape_html(name)}</th>" for name in (corner, *head))
    lines = "".join(
        f"<tr><td>{escape_html(name)}</td>{''.join(_shaded_cell(*cell) for cell in row)}</tr>"
        for name, row in zip(names, cells, strict=True)
    )
    return (
        f'<div class="scroll"><table class="heat"><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def select_box(group: str, options: Sequence[tuple[str, str]]) -> str:
    """One of several pieces at a time, by a list to choose from. Options are (title, HTML); the first is shown."""
    names = "".join(
        f'<option value="{group}-{i}">{escape_html(title)}</option>' for i, (title, _) in enumerate(options)
    )
    pieces = "".join(
        f'<div id="{group}-{i}" data-of="{group}"{" hidden" if i else ""}>{piece}</div>'
        for i, (_, piece) in enumerate(options)
    )
    return f'<p><select data-group="{group}" aria-label="{group}">{names}</select></p>{pieces}'


def copyable_command(line: str) -> str:
    """A command with a button that copies it."""
    return f'<code>{escape_html(line)}</code> <button class="copy" data-text="{escape_html(line)}">copy</button>'


def latency_kind_badge(kind: str) -> str:
    """The mark of a latency's provenance."""
    return f'<span class="tag {escape_html(kind)}">{escape_html(kind)}</span>'


def bullet_list(lines: Sequence[str]) -> str:
    """A list of HTML lines."""
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _shaded_cell(words: str, depth: float) -> str:
    if depth != depth:
        return f"<td>{escape_html(words)}</td>"
    ink = "#fff" if depth > 0.55 else "var(--ink)"
    return f'<td style="background:rgba(11,110,105,{0.06 + 0.86 * depth:.2f});color:{ink}">{escape_html(words)}</td>'
