// How messages look, and the Markdown in them.

export const MESSAGE_STYLES = `
.items>.user{align-items:flex-end}
.user .text{max-width:85%;padding:8px 14px;border:1px solid transparent;border-radius:18px;border-end-end-radius:5px;
background:var(--accent);color:var(--on-accent);white-space:pre-wrap}
.assistant .text{width:100%}
.found .text{outline:2px solid var(--accent);outline-offset:4px;border-radius:4px}
.day{align-self:center;padding-bottom:14px}
.foot{display:flex;align-items:center}
.foot .icon{width:28px;height:28px;border-radius:8px}
.foot .icon:first-child{margin-inline-start:-6px}
.foot svg{width:16px;height:16px}
.down svg{transform:rotate(180deg)}
[aria-pressed=true]{color:var(--ink)}
[aria-pressed=true] svg{fill:currentColor}
time{position:absolute;inset-block-end:2px;line-height:18px;white-space:nowrap;opacity:0}
.user time{inset-inline-end:4px}
.icon~time{position:static;padding-inline-start:6px}
.items>li:is(:hover,:focus-within) time{opacity:1}
.again{display:none}
.items>:nth-last-child(2) .again{display:inline-flex}
:is(.day,.note,.wait),time{font-size:.8em;color:var(--soft)}
.note{font-style:italic}
.fail{max-width:85%;margin-top:6px;font-size:.8667em;color:var(--bad)}
.user .fail{text-align:end}
.fail .pill{min-height:30px;margin-top:6px;padding:3px 12px}
.wait:not(:empty){margin-inline-start:8px}
[aria-busy] .text>:last-child:not(ul,ol)::after,[aria-busy] .text>:is(ul,ol):last-child>:last-child::after{content:"";
display:inline-block;width:8px;height:8px;margin-inline-start:4px;border-radius:50%;background:var(--accent)}
.text>*{margin:0 0 .6em;white-space:normal}
.text>:last-child{margin-bottom:0}
.text :is(h1,h2,h3,h4,h5,h6){font-size:1.0667em;line-height:1.35;font-weight:600;white-space:normal}
.text :is(ul,ol){padding-inline-start:1.5em;list-style:disc}
.text ol{list-style:decimal}
a{color:inherit;text-decoration-color:var(--accent);text-decoration-thickness:.1em;text-underline-offset:.15em}
.md-host{color:var(--soft);font-size:.85em}
blockquote{padding-inline-start:12px;border-inline-start:3px solid var(--line);color:var(--soft)}
code{font:.88em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--tint);border-radius:4px;
padding:.1em .3em}
.md-code,.md-table{border:1px solid var(--line);border-radius:10px;overflow:hidden}
.md-code-head{display:flex;justify-content:space-between;align-items:center;padding:2px 4px 2px 12px;min-height:32px;
font-size:.8em;color:var(--soft);background:var(--tint)}
.md-code-head button{padding:2px 8px;min-height:26px;border-radius:6px}
.md-code-head button:hover{color:var(--ink)}
pre{margin:0;padding:10px 12px;overflow-x:auto;scrollbar-width:thin}
pre code{background:none;padding:0}
.md-table{overflow-x:auto;scrollbar-width:thin}
table{border-collapse:collapse;min-width:100%;font-size:.9333em}
th,td{overflow-wrap:break-word;padding:6px 12px;text-align:start;vertical-align:top;border-bottom:1px solid var(--line)}
[align=center]{text-align:center}
[align=right]{text-align:end}
tr:last-child td{border-bottom:0}
th{background:var(--tint);font-weight:600}
img{max-width:100%;height:auto;border-radius:8px}
hr{border:0;border-top:1px solid var(--line)}
`;
