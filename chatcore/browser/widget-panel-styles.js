// How the panel looks: header, list, composer.

export const PANEL_STYLES = `
[hidden]{display:none!important}
p,h2,ol,ul{margin:0;padding:0;list-style:none}
textarea{margin:0;font:inherit;color:inherit}
.panel{display:flex;flex-direction:column;margin:0;padding:0;overflow:hidden;color:inherit;background:var(--ground);
border:1px solid var(--line);border-radius:var(--radius);outline:0;
--tint:color-mix(in srgb,var(--ink) 7%,transparent);--edge:color-mix(in srgb,var(--ink) 54%,var(--ground))}
section.panel{position:relative;flex:1;contain:size;contain-intrinsic-size:400px 600px}
dialog{position:fixed;z-index:var(--chat-z-index,2147483000);inset:auto;inset-inline-end:var(--inset);
inset-block-end:calc(var(--inset) + 68px + env(safe-area-inset-bottom));max-width:none;max-height:none;
width:min(var(--chat-width,400px),100vw - 2*var(--inset));
height:min(var(--chat-height,680px),100dvh - 2*var(--inset) - 68px);box-shadow:var(--shade)}
dialog:not([open]){display:none}
dialog:modal{inset:var(--seen-top,0) 0 auto;width:100%;height:var(--seen-height,100dvh);border:0;border-radius:0;
padding:env(safe-area-inset-top) env(safe-area-inset-right) env(safe-area-inset-bottom) env(safe-area-inset-left)}
header{display:flex;align-items:center;gap:4px;padding-block:10px;padding-inline:16px 10px;
border-bottom:1px solid var(--line)}
header div{flex:1;min-width:0;padding-inline:8px}
h2{font-size:1.0667em;line-height:1.3;font-weight:600;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.mark{display:flex;align-items:center;justify-content:center;flex:none;width:32px;height:32px;border-radius:50%;
overflow:hidden;background:var(--accent);color:var(--on-accent)}
::slotted(*){width:100%;height:100%;object-fit:cover}
:is(.status,.notice,.count){font-size:.8em;color:var(--soft)}
.status{line-height:1.3}
:is(.status,.count):empty{display:none}
.notice{padding:8px 16px;background:var(--tint);border-bottom:1px solid var(--line)}
.icon{width:36px;height:36px;border-radius:10px;color:var(--soft);flex:none}
.icon:hover{background:var(--tint);color:var(--ink)}
.back{margin-inline-start:-8px}
.back:dir(rtl) svg{transform:scaleX(-1)}
.list{position:relative;flex:1;min-height:0;display:flex}
.scroll{position:relative;flex:1;min-width:0;padding:16px 16px 0;overflow:hidden auto;overscroll-behavior:contain;
overflow-anchor:none;scrollbar-width:thin;outline-offset:-3px}
.items>li{position:relative;display:flex;flex-direction:column;align-items:flex-start;padding-bottom:22px}
.text{white-space:pre-line;max-width:100%;overflow-wrap:anywhere;text-align:start}
.pill{min-height:36px;padding:6px 14px;border-color:var(--edge);border-radius:18px;color:var(--ink);font-size:.9333em;
text-align:start;overflow-wrap:anywhere}
.pill:hover{background:var(--tint)}
[aria-disabled]{opacity:.5;cursor:default}
.chips{display:flex;flex-wrap:wrap;gap:8px}
.items>.dots{flex-direction:row;gap:5px;padding-block:8px 30px}
.dots>i{width:7px;height:7px;border-radius:50%;border:4px solid var(--soft)}
.latest,.latest:hover{position:absolute;inset:auto 0 10px;margin:auto;background:var(--ground);
border-color:var(--edge);border-radius:50%;box-shadow:0 2px 10px #10162829;color:var(--ink)}
.composer{padding:4px 16px 16px}
.box{display:flex;flex-wrap:wrap;align-items:flex-end;padding:5px;border:1px solid var(--edge);border-radius:23px}
.box:focus-within{border-color:var(--accent);outline:1px solid var(--accent)}
.grow{display:grid;flex:1;min-width:0;max-height:156px;overflow:hidden auto;scrollbar-width:thin}
.grow::after{content:attr(data-value) " ";visibility:hidden}
.grow::after,textarea{grid-area:1/1;min-width:0;padding:6px 10px;border:0;font-size:max(16px,1em);line-height:1.5;
white-space:pre-wrap;overflow-wrap:anywhere}
textarea{background:none;resize:none;outline:0;overflow:hidden}
::placeholder{color:var(--soft);opacity:1}
.count{order:3;width:100%;padding:2px 10px;text-align:end}
.box:has([aria-invalid]) .count{color:var(--bad)}
.stop svg{fill:currentColor}
.attach{border-radius:50%}
.send,.send:hover{border-radius:50%;background:var(--accent);color:var(--on-accent)}
@media (prefers-reduced-motion:no-preference){
dialog[open]{animation:rise .2s cubic-bezier(.2,.8,.3,1)}
@keyframes rise{from{opacity:0;transform:translateY(14px)}}
.dots>i{animation:blink 1.2s infinite}
i+i{animation-delay:.15s}
i+i+i{animation-delay:.3s}
@keyframes blink{0%,60%,100%{opacity:.3}30%{opacity:1}}
}
@media print{dialog{display:none}}
`;
