// How the widget looks while it is closed, and the colours and sizes that a page may set.

export const WIDGET_STYLES = `
:host{all:initial;display:contents}
:host([hidden]){display:none}
:host([mode=inline]){display:flex;height:var(--chat-height,100%);min-height:300px}
*{box-sizing:border-box}
.root{all:initial;display:contents;
--accent:var(--chat-accent,#2f5bea);--on-accent:var(--chat-on-accent,#fff);--ground:var(--chat-ground,#fff);
--ink:var(--chat-ink,#1b1f2a);
--soft:var(--chat-soft,#5a6172);--line:var(--chat-line,#e3e6ec);--bad:var(--chat-bad,#b3261e);
--radius:var(--chat-radius,16px);
--inset:var(--chat-inset,20px);--shade:0 16px 48px #10162833,0 2px 8px #10162814;
font:.9375em/1.5 var(--chat-font,system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif);color:var(--ink);
color-scheme:light;-webkit-text-size-adjust:100%}
.root.dark{color-scheme:dark;
--accent:var(--chat-accent,#3c66ee);--ground:var(--chat-ground,#15181f);--ink:var(--chat-ink,#e8eaf0);
--soft:var(--chat-soft,#a0a8ba);--line:var(--chat-line,#2c3240);--bad:var(--chat-bad,#ffb4ab);--shade:0 16px 48px #0009}
:focus-visible{outline:2px solid var(--chat-focus,var(--accent));outline-offset:2px}
button{display:inline-flex;align-items:center;justify-content:center;margin:0;padding:0;border:1px solid transparent;
background:none;font:inherit;color:inherit;cursor:pointer;touch-action:manipulation;
-webkit-tap-highlight-color:transparent}
svg{width:20px;height:20px;flex:none;fill:none;stroke:currentColor;stroke-width:1.8;stroke-linecap:round;
stroke-linejoin:round}
.unseen{position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.bubble{position:fixed;z-index:var(--chat-z-index,2147483000);
inset-block-end:calc(var(--inset) + env(safe-area-inset-bottom));inset-inline-end:var(--inset);width:56px;height:56px;
border-radius:50%;background:var(--accent);color:var(--on-accent);box-shadow:0 6px 20px #10162847}
.bubble svg{width:27px;height:27px}
.bubble[aria-expanded=true] svg:first-child,.bubble[aria-expanded=false] svg+svg,.dot{display:none}
.unread .dot{display:block;position:absolute;inset-block-start:0;inset-inline-end:0;width:16px;height:16px;
border-radius:50%;background:#e5484d;border:2px solid var(--ground)}
@media (prefers-reduced-motion:no-preference){
.bubble{transition:transform .15s}
.bubble:hover{transform:scale(1.06)}
.bubble[aria-busy]{animation:wait .8s infinite alternate}
@keyframes wait{to{transform:scale(.94)}}
}
@media print{.bubble{display:none}}
`;
