// Markdown from an enemy: nothing runs, nothing is lost, nothing takes long.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createRenderer, parse, render } from "../../chatcore/browser/markdown.js";
import { PageElement, createPage, within } from "./markdown-page.js";

/** @import { Tree } from "../../chatcore/browser/markdown-tree.js" */

const OPTIONS = { strings: { copyCode: "Copy" }, onCopy: () => {} };
const MEGABYTE = 1e6;

/** The attributes that an element may have, and their values. @type {Record<string, Record<string, RegExp>>} */
const ALLOWED = {
  p: {}, h3: {}, h4: {}, h5: {}, h6: {}, ul: {}, blockquote: {}, li: {}, hr: {}, br: {}, table: {}, tr: {},
  pre: { tabindex: /^0$/ },
  ol: { start: /^\d{1,9}$/ }, th: { align: /^(center|right)?$/ }, td: { align: /^(center|right)?$/ },
  em: {}, strong: {}, del: {}, code: {}, span: {}, bdi: { class: /^md-host$/ }, button: { type: /^button$/ },
  div: { class: /^md-code(-head)?$/ },
  section: { class: /^md-table$/, tabindex: /^0$/, role: /^group$/, "aria-label": /^/ },
  a: { href: /^(https?:\/\/[^/@]+\/|mailto:)/, target: /^_blank$/, rel: /^noopener noreferrer nofollow$/ },
  img: { src: /^https?:\/\/[^/@]+\//, alt: /^/, loading: /^lazy$/, referrerpolicy: /^no-referrer$/ },
};

/** @param {string} text */
const refuseDanger = (text) => {
  for (const allowImages of [false, true]) {
    const fragment = /** @type {any} */ (render(text, { ...OPTIONS, document: createPage().document, allowImages }));
    for (const node of within(fragment)) {
      if (!(node instanceof PageElement) || node === fragment) continue;
      const allowed = ALLOWED[node.localName];
      assert.ok(allowed && (allowImages || node.localName !== "img"), node.localName);
      for (const [name, value] of node.attributes) {
        assert.match(value, name === "dir" ? /^(auto|ltr)$/ : (allowed[name] ?? /^\b$/), `${node.localName} ${name}`);
      }
      if (node.localName !== "a") continue;
      assert.equal(node.getAttribute("rel"), "noopener noreferrer nofollow");
      for (let above = node.parentNode; above; above = above.parentNode) assert.notEqual(above.localName, "a");
    }
  }
};

/** @type {(tree: Tree | Tree[]) => string} */
const textOf = (tree) =>
  typeof tree === "string" ? tree : (Array.isArray(tree) ? tree : tree.content).map(textOf).join("");

/** @type {(tree: Tree | Tree[]) => {nodes: number, depth: number}} */
const sizeOf = (tree) => {
  if (typeof tree === "string") return { nodes: 1, depth: 0 };
  let [nodes, depth] = [1, 0];
  for (const child of Array.isArray(tree) ? tree : tree.content) {
    const size = sizeOf(child);
    nodes += size.nodes;
    depth = Math.max(depth, size.depth + 1);
  }
  return { nodes, depth };
};

const SCRIPT = "java".concat("script");

/** Addresses that run something, or look as if they were somewhere else. */
const ADDRESSES = [
  `${SCRIPT}:alert(1)`, `JaVa${"ScRiPt"}:alert(1)`, ` ${SCRIPT}:alert(1)`, `\u0001${SCRIPT}:alert(1)`,
  `java\tscript:alert(1)`,
  `java\nscript:alert(1)`, `java\u0000script:alert(1)`, `${SCRIPT}&colon;alert(1)`, `${SCRIPT}&#58;alert(1)`,
  `&#106;avascript:alert(1)`, `&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;alert(1)`,
  `%6aavascript:alert(1)`,
  `\\j${SCRIPT.slice(1)}:alert(1)`, `ｊａｖａｓｃｒｉｐｔ:alert(1)`, `${SCRIPT}：alert(1)`, `\u00ad${SCRIPT}:alert(1)`,
  `feed:${SCRIPT}:alert(1)`, `view-source:${SCRIPT}:alert(1)`, `vbscript:msgbox(1)`,
  `data:text/html,<script>alert(1)</script>`,
  `data:text/html;base64,PHNjcmlwdD4=`, `data:image/svg+xml,<svg onload=alert(1)>`, `blob:https://a.de/b`,
  `file:///etc/passwd`,
  `filesystem:https://a.de/b`, `about:blank`, `intent://a`, `tel:112`, `//evil.de`, `/\\evil.de`, `\\\\evil.de`,
  `?a`, `#a`,
  `https://user@evil.de`, `https://user:secret@evil.de`, `https:// evil.de`, `https://a\u200bb.de`,
  `https://evil.de\u0000`, `http://`, `https:///`, `https://[::1`, `mailto`, `x${SCRIPT}:https://a.de`,
];

const PAYLOADS = [
  "<script>alert(1)</script>", "<ScRiPt src=//evil.de/x></sCrIpT>", "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "<iframe srcdoc='<script>alert(1)</script>'></iframe>", "<style>*{background:url(//evil.de)}</style>",
  "<meta http-equiv=refresh content='0;url=//evil.de'>", "<base href=//evil.de>",
  "<a href='javascript:alert(1)'>x</a>",
  "<form action=//evil.de><button formaction=x>", "<math><mtext></p><style><!--</style><img src=x onerror=alert(1)>",
  "</div></pre><script>", "<!--<img src=--><img src=x onerror=alert(1)//>", "\"><script>", "`<script>`",
  "```html\n<script>alert(1)</script>",
  "```\"><img src=x onerror=alert(1)>\n```", "~~~<svg onload=x>", "|<script>|\n|-|\n|<img onerror=x>|",
  "# <script>", "- <script>",
  "> <script>", "[<script>](https://a.de)", "![\" onerror=\"alert(1)](https://a.de/\"onerror=\"x)",
  "[a](https://a.de/\"onclick=\"x)",
  "[a](https://a.de \"\\\" onclick=x\")", "<https://a.de/\"onclick=x>", "https://a.de/'onclick='x",
  "[[a](https://a.de)](https://b.de)",
  "[![a](https://a.de/b)](https://c.de)", "[a https://b.de c](https://d.de)",
  "![[a](https://a.de)](https://b.de)", "![![a](https://b.de)](https://c.de)",
];

test("no known payload becomes more than text or a harmless link", () => {
  for (const address of ADDRESSES) {
    const links = [`[a](${address})`, `[a](<${address}>)`, `[a]( ${address} "b" )`, `![a](${address})`];
    for (const text of [...links, `<${address}>`, address]) refuseDanger(text);
  }
  for (const text of PAYLOADS) refuseDanger(text);
});

test("no address but http, https and mailto is a link", () => {
  for (const address of ADDRESSES) {
    const tree = JSON.stringify(parse(`[a](${address})`));
    assert.doesNotMatch(tree, /"href":"(?!https:\/\/a\.de\/)/, address);
  }
});

test("markup of others is shown as it was written", () => {
  for (const text of PAYLOADS.filter((x) => /^<(?!https)/.test(x))) assert.equal(textOf(parse(text)), text);
});

const PIECES = [
  "*", "**", "***", "_", "__", "~~", "~", "`", "``", "```", "~~~", "[", "]", "(", ")", "![", "](",
  "](https://a.de)", "](mailto:b)", "<", ">",
  "https://c.de", "http:", "<https://d.de>", "mailto:", SCRIPT.concat(":"), "data:", "//", "@", ".", "\\", '"',
  "'", "|", "-", "|-|-|", ":-:", "#", "+", "!",
  "\n", "\n", "\n\n", "\r\n", "> ", "- ", "1. ", "12) ", "[ ] ", "  ", "    ", "\t", " ", "a", "b c", "é", "字",
  "。", "😀", "\ud83d", "\u202e", "\u2028", "\u0000", "&lt;", "<script>",
];
const markup = fc.oneof(
  { weight: 4, arbitrary: fc.array(fc.constantFrom(...PIECES), { maxLength: 60 }).map((x) => x.join("")) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 200 }) },
);

test("any text becomes nodes of the allowed kinds, without links in links", () => {
  fc.assert(fc.property(markup, refuseDanger), { numRuns: 1000 });
});

test("any text becomes a tree of bounded size and depth", () => {
  fc.assert(fc.property(markup, (text) => {
    const { nodes, depth } = sizeOf(parse(text));
    assert.ok(nodes <= 3 * text.length + 10, `${nodes} nodes`);
    assert.ok(depth < 50, `${depth} deep`);
  }), { numRuns: 1000 });
});

test("no letter is lost that is not part of an address", () => {
  const words = PIECES.filter((x) => !/[a-z]/.test(x)).concat("ä", "ö", "Ü", "字");
  const letters = (/** @type {string} */ text) => text.replace(/[^\p{L}]/gu, "");
  fc.assert(fc.property(fc.array(fc.constantFrom(...words), { maxLength: 60 }), (pieces) => {
    const text = pieces.join("");
    assert.equal(letters(textOf(parse(text))), letters(text));
  }), { numRuns: 2000 });
});

/** As many paragraphs of it, each as long as is still read, as make a megabyte. @param {string} motif */
const filled = (motif) => {
  const block = `${motif.repeat(Math.ceil(19e3 / motif.length)).slice(0, 19e3)}\n\n`;
  return block.repeat(MEGABYTE / block.length);
};
const growing = (/** @type {string} */ mark, /** @type {string} */ rest) => {
  let text = "";
  for (let i = 1; text.length < 19e3; i++) text += mark.repeat(i) + rest;
  return text.slice(0, 19e3);
};

/** @type {Record<string, string>} */
const HUGE = {
  "one line of words": "word ".repeat(2e5),
  "one character": "a".repeat(MEGABYTE),
  "short lines": "a\n".repeat(5e5),
  "nothing but line feeds": "\n".repeat(MEGABYTE),
  spaces: `${" ".repeat(MEGABYTE)}x`,
  tabs: `${"\t".repeat(MEGABYTE)}x`,
  "asterisks in one line": "*".repeat(1e5),
  asterisks: filled("*"),
  "openers of emphasis": filled("*a **b ***c _d __e ~~f "),
  "closers of emphasis": filled("a* b** c*** d_ e__ f~~ "),
  "openers and closers": `${"*a ".repeat(3e3)}${"a* ".repeat(3e3)}`,
  brackets: filled("["),
  "closing brackets": filled("]"),
  "nested brackets": `${"[".repeat(9e3)}a${"]".repeat(9e3)}`,
  images: filled("!["),
  "nested images": filled("![![a](b)](c)"),
  "links that do not end": filled("[a](https://b"),
  "titles that do not end": filled("[a](b 'c [a](b \"c "),
  "spaces in links": filled(`[a](${" ".repeat(5e3)}`),
  "spaces behind addresses": filled(`[a](b${" ".repeat(5e3)}`),
  "parentheses in links": filled("[a](("),
  "links in brackets": `[${filled("[a]")}`,
  links: filled("[a](https://b.de) "),
  addresses: filled("https://a.de/b "),
  "false addresses": filled("https://a@b "),
  "one long address": filled(`https://${"a".repeat(18e3)}`),
  "addresses with points": filled(`https://${".".repeat(18e3)}`),
  "ticks of all lengths": filled(growing("`", "a")),
  "ticks of all lengths in one line": growing("`", " ").repeat(3),
  "ticks that do not end": filled("``` `a"),
  backslashes: filled("\\"),
  "quotes in quotes": "> ".repeat(1e4),
  "quotes in quotes, often": `${">".repeat(1e4)}\n`.repeat(100),
  "lines of quotes": "> a\n".repeat(25e4),
  "lists in lists": Array.from({ length: 900 }, (_, i) => `${" ".repeat(2 * i)}- a\n`).join(""),
  "lists in a line": `${"- ".repeat(5e5)}a`,
  "items of lists": "- a\n".repeat(25e4),
  "items of nothing": "-\n".repeat(5e5),
  "an item far to the right": `${" ".repeat(4e5)}- a\n${" ".repeat(4e5)}- b`,
  "a rule that is none": `${"- ".repeat(5e5)}x`,
  "a fence of its own": `${"`".repeat(5e5)}\n${"`".repeat(5e5)}`,
  "a fence of tildes": `${"~".repeat(5e5)}\na\n${"~".repeat(5e5)}`,
  "a fence that is none": `${"`".repeat(MEGABYTE)}a\``,
  fences: "```\n".repeat(25e4),
  "an open fence": `   \`\`\`\n${"   code\n".repeat(12e4)}`,
  "a table of ten thousand columns": `${"|a".repeat(1e4)}\n${"|-".repeat(1e4)}\n${`${"|a".repeat(1e4)}\n`.repeat(46)}`,
  "a row too long": `a|b\n-|-\n${"|".repeat(5e5)}`,
  "rows of a table": `a|b\n-|-\n${"a|b\n".repeat(25e4)}`,
  "heads of tables": "a|b\n".repeat(25e4),
  "rules of tables": "-|-\n".repeat(25e4),
  "a row that is none": `a|b\n-|-${" ".repeat(MEGABYTE)}x`,
  headings: "# a\n".repeat(25e4),
  "a heading of hashes": `# ${"# ".repeat(5e5)}`,
  overrides: "\u202e".repeat(MEGABYTE),
};

for (const [name, text] of Object.entries(HUGE)) {
  test(`a megabyte takes a moment: ${name}`, () => {
    const start = performance.now();
    const { nodes, depth } = sizeOf(parse(text));
    assert.ok(performance.now() - start < 8e3, "took too long");
    assert.ok(nodes <= 2 * text.length + 10, `${nodes} nodes`);
    assert.ok(depth < 50, `${depth} deep`);
  });
}

test("a megabyte on one line grows as plain text", () => {
  const page = createPage();
  const container = /** @type {any} */ (page.document.createElement("div"));
  const renderer = createRenderer(container, { ...OPTIONS, document: page.document });
  const start = performance.now();
  for (let n = 0; n <= MEGABYTE; n += 2e4) renderer.update("*a*.".repeat(n / 4));
  assert.ok(performance.now() - start < 8e3, "took too long");
  assert.equal(container.textContent.length, MEGABYTE);
  assert.ok(page.made.elements < 3e4, `${page.made.elements} elements`);
});
