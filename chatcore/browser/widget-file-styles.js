// How files look that are chosen or went along with a message.

export const FILE_STYLES = `
.tray{padding:0 4px 8px}
.files{display:flex;flex-wrap:wrap;gap:6px;max-height:132px;overflow:hidden auto;scrollbar-width:thin}
.file{display:flex;align-items:center;gap:8px;min-width:0;max-width:100%;min-height:36px;padding:3px;
padding-inline-end:10px;border:1px solid var(--line);border-radius:10px;font-size:.8667em}
.tray .file{padding-inline-end:3px}
.file .icon{width:28px;height:28px;border-radius:8px}
.file .icon svg{width:16px;height:16px}
.thumb{display:flex;flex:none;align-items:center;justify-content:center;width:28px;height:28px;border-radius:7px;
overflow:hidden;background:var(--tint);color:var(--soft)}
.thumb svg{width:16px;height:16px}
.thumb canvas{width:100%;height:100%}
.file-name{min-width:0;max-width:220px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.file-size{flex:none;color:var(--soft);white-space:nowrap}
.file-note{padding:6px 4px 0;font-size:.8667em;color:var(--bad);overflow-wrap:anywhere}
.file-note:empty{display:none}
.sent{display:flex;flex-direction:column;align-items:flex-end;gap:6px;max-width:85%}
.sent .files{justify-content:flex-end;max-height:none}
.text:not([hidden])+.sent{margin-top:6px}
progress{width:160px;max-width:100%;height:6px;accent-color:var(--accent)}
.drop{position:absolute;z-index:1;inset:8px;display:flex;align-items:center;justify-content:center;padding:16px;
text-align:center;font-weight:600;color:var(--ink);background:color-mix(in srgb,var(--ground) 88%,transparent);
border:2px dashed var(--accent);border-radius:calc(var(--radius) - 6px);pointer-events:none}
`;
