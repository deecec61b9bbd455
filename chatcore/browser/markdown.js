// A safe subset of Markdown: text to tree, tree to nodes.
/** @import { CreateRenderer, Render } from "./markdown-tree.js" */

const TOKEN = new RegExp(
  /\\[!-/:-@[-`{-~]|\\?\n|(`+)(?!`)([^]+?)(?<!`)\1(?!`)|`+|\*+|_+|~+|/.source +
    /(!?)\[((?:\\.|\[[^[\]]*]|[^[\]\\])*)]\(\s*((?:[^\s()]|\([^\s()]*\))+)(?:\s+"[^"]*")?\s*\)|/.source +
    /<(?:https?:\/\/|mailto:)[^\s<>]+>|/.source +
    /\b(?:https?:\/\/|mailto:)(?:[^\s()<>"`[\]\u3000-\u303f\uff00-\uffef]|\([^\s()<>]*\))+(?<![?!.,:;*_~'])/.source,
  "gi",
);
const LINE =
  /^\s*(?:(`{3,99}(?=[^`]*$)|~{3,99})(.*)|(#{1,6})\s(.*)|([-*_])(?: *\5){2,}\s*$|(>) ?|(?:[-*+]|(\d{1,9})[.)])\s+|)/s;

/** @returns {any} */
const element = (tag = "", content = /** @type {any} */ ([]), attributes = {}) => ({ tag, content, attributes });

const address = (raw = "") => {
  try {
    const { href } = new URL(raw);
    return !/[\s\p{C}]/u.test(raw) && /^(mailto:|https?:\/\/[^/@]+\/)/.test(href) && href;
  } catch {
    return "";
  }
};

const hostOf = (text = "") => text.replace(/^(https?:\/\/|mailto:)?(www\.)?|[/?#].*/gis, "").toLowerCase();

const link = (href = "", text = "") => {
  const content = inline(text, true);
  // The text may lie about the host.
  if (/[.:。．․｡](?!\d)\S/.test(text) && hostOf(text) !== hostOf(href))
    content.push(element("bdi", [` (${hostOf(href)})`], { class: "md-host" }));
  return element("a", content, { href, target: "_blank", rel: "noopener noreferrer nofollow", dir: "auto" });
};

const inline = (text = "", inLink = false) => {
  const out = /** @type {any} */ ([]);
  const marks = /** @type {any} */ ({});
  let at = 1;
  text = ` ${text} `;
  for (const found of text.matchAll(text[2e4] ? /\n/g : TOKEN)) {
    const [piece, , code, image, label, target = piece.replace(/^<|>$/g, "")] = found;
    out.push(text.slice(at, found.index));
    at = found.index + piece.length;
    const around = text[found.index - 1] + text[at];
    // Neither snake_case nor 2*3*4.
    const flank = piece[0] === "_" ? /^\S[^\p{L}\p{N}]/u : /^(?!\d\w|\w\d)\S/;
    const linked = (image ? /^h/i : /^[hm]/i).test(target) && (!inLink || image);
    const href = linked && address(target.replace(/\\(.)/g, "$1"));
    if (piece.endsWith("\n")) out.push(element("br"));
    else if (code) out.push(element("code", [code.replace(/^ | $/g, "")], { dir: "auto" }));
    else if (piece[0] === "\\") out.push(piece[1]);
    else if (href) {
      const shown = link(href, label || target);
      const attributes = { alt: label, loading: "lazy", referrerpolicy: "no-referrer", src: href };
      out.push(image ? element("img", [inLink ? label : shown], attributes) : shown);
    } else if (flank.test(around) && out[marks[piece]] === piece) {
      const content = out.splice(marks[piece]).slice(1);
      const tag = piece[0] === "~" ? "del" : piece[1] ? "strong" : "em";
      out.push(element(tag, piece[2] ? [element("em", content)] : content));
    } else {
      if (/^(\*{1,3}|_{1,3}|~~)$/.test(piece) && flank.test(around[1] + around[0])) marks[piece] = out.length;
      out.push(piece);
    }
  }
  out.push(text.slice(at, -1));
  return out;
};

const cells = (line = "") =>
  /\|/.test(line) ? line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((x) => x.trim()) : [];

const blocks = (lines = [""], depth = 0) => {
  const out = [];
  for (let i = 0; i < lines.length; ) {
    const start = i;
    const line = lines[i++];
    const [begin, fence, info, hashes, title, rule, quote, number] = /** @type {any} */ (LINE.exec(line + " "));
    const indent = line.search(/\S/);
    const [head, columns] = [line, lines[i]].map(cells);
    const last = out[out.length - 1];
    const open = last?.tag === "p" && lines[start - 1].trim();
    let tree;
    if (fence) {
      const end = new RegExp(`^\\s*${fence}+\\s*$`);
      while (!end.test(lines[i] ?? fence)) i++;
      const surplus = new RegExp(`^[ \\t]{0,${indent}}|\\r$`, "gm");
      const code = lines.slice(start + 1, i++).join("\n").replace(surplus, "");
      tree = element("div", [
        element("div", [info.trim(), element("button", [], { type: "button" })], { class: "md-code-head" }),
        element("pre", [element("code", [code])], { tabindex: "0" }),
      ], { class: "md-code", dir: "ltr" });
    } else if (hashes) tree = element(`h${"333444"[hashes.length - 1]}`, inline(title.trim()));
    else if (rule) tree = element("hr");
    else if (begin.trim() && depth < 8 && (quote || !open || /^\s*([-*+]|1.)\s+\S/.test(line))) {
      const inside = quote ? /^\s*> ?/ : new RegExp(`^(\\s{${indent}}(\\t| {2,${begin.length - indent}})|\\s*$)`);
      while (inside.test(lines[i])) i++;
      const rows = lines.slice(start + 1, i).map((x) => x.replace(inside, ""));
      rows.unshift(line.slice(begin.length).replace(/^\[ ]\s/, "☐ ").replace(/^\[x]\s/i, "☑ "));
      const content = blocks(rows, depth + 1);
      const tag = number ? "ol" : "ul";
      if (quote) tree = element("blockquote", content);
      else if (last?.tag === tag) last.content.push(element("li", content));
      else tree = element(tag, [element("li", content)], number && { start: number });
    } else if (
      columns[0] && !begin.trim() && head.length === columns.length && columns.every((x) => /^:?-+:?$/.test(x))
    ) {
      while (/\|/.test(lines[++i]));
      const rows = [line, ...lines.slice(start + 2, i)].map((row, k) =>
        element("tr", cells(row).map((x, n) =>
          element(k || !x ? "td" : "th", inline(x.replace(/\\\|/g, "|")),
            { align: /:$/.test(columns[n]) ? (/^:/.test(columns[n]) ? "center" : "right") : "" }))));
      tree = element("section", [element("table", rows)],
        { class: "md-table", tabindex: "0", role: "group", "aria-label": head.join(", ") });
    } else if (line.trim()) {
      if (open) last.content.push(line.trim());
      else tree = element("p", [line.trim()]);
    }
    if (tree) {
      out.push(tree);
      tree.start = start;
      if (!depth) tree.attributes.dir ??= "auto";
    }
  }
  for (const x of out) if (x.tag === "p") x.content = inline(x.content.join("\n"));
  return out;
};

// Without what would reorder its surroundings.
export const parse = (text = "") => blocks(text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd").split("\n"));

/** @type {CreateRenderer} */
export const createRenderer = (container, { document, allowImages, strings, onCopy }) => {
  let shown = "";
  let done = 0;
  let finished = 0;

  const sync = (/** @type {any} */ parent, /** @type {any} */ trees, next = parent.firstChild) => {
    for (const tree of trees) {
      let { tag, attributes = {}, content } = tree;
      if (tag === "img") if (allowImages) content = []; else [tag, attributes] = ["span", {}];
      let node = next;
      next = node?.nextSibling;
      if (!node || node.localName !== tag) {
        node?.remove();
        node = parent.insertBefore(tag ? document.createElement(tag) : document.createTextNode(""), next);
        if (tag === "button") node.onclick = () => onCopy(node.parentNode.nextSibling.textContent, node);
      }
      // Else every change below has it found out anew.
      if (tag && shown[done + 1e4]) node.removeAttribute("dir");
      if (tag) sync(node, tag === "button" ? [strings.copyCode] : content);
      else if (tree.slice(0, node.length) === node.data) node.appendData(tree.slice(node.length));
      else node.data = tree;
      for (const name of Object.keys(attributes))
        if (node.getAttribute(name) !== attributes[name]) node.setAttribute(name, attributes[name]);
    }
    for (let node; (node = next); node.remove()) next = node.nextSibling;
  };

  return {
    update(text) {
      if (text.slice(0, shown.length) !== shown) {
        done = finished = 0;
        container.replaceChildren();
      }
      shown = text;
      const lines = text.slice(done).split("\n");
      const trees = parse(text.slice(done));
      sync(container, trees, container.childNodes[finished]);
      // The last two lines may still change.
      const certain = trees.findLastIndex((x) => x.start + 2 < lines.length);
      if (certain > 0) {
        done += lines.slice(0, trees[certain].start).join("\n").length + 1;
        finished += certain;
      }
    },
  };
};

/** @type {Render} */
export const render = (text, options) => {
  const fragment = options.document.createDocumentFragment();
  createRenderer(fragment, options).update(text);
  return fragment;
};
