// A reply that grows: however it was cut, it ends as if it had come at once, and what is finished stays.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createRenderer, render } from "../../chatcore/browser/markdown.js";
import { PageElement, createPage, within, written } from "./markdown-page.js";

const OPTIONS = { strings: { copyCode: "Copy" }, onCopy: () => {} };

const growing = () => {
  const page = createPage();
  const container = /** @type {any} */ (page.document.createElement("div"));
  const renderer = createRenderer(container, { ...OPTIONS, document: page.document, allowImages: true });
  return { ...page, container, update: renderer.update };
};

/** @param {string} text */
const atOnce = (text) => {
  const { document } = createPage();
  const fragment = /** @type {any} */ (render(text, { ...OPTIONS, document, allowImages: true }));
  return written(fragment);
};

/** @param {any} container */
const inside = (container) => container.childNodes.map(written).join("");

const REPLY = `# Title

Some *text* with [a link](https://a.de/b) and \`code\`.
More | of | it
- a list
  1. with **numbers**

     and text
- [x] done

| a | b |
|---|--:|
| 1 | 2 |
---
> a quote
> - in it

\`\`\`js
let a;

let b;
\`\`\`
1. one\r
2. two\r
\`\`\`
open ![i](https://c.de/d.png)
~~~
`;

test("a reply is the same after a cut at any place", () => {
  for (let cut = 0; cut <= REPLY.length; cut++) {
    const reply = growing();
    reply.update(REPLY.slice(0, cut));
    assert.equal(inside(reply.container), atOnce(REPLY.slice(0, cut)));
    reply.update(REPLY);
    assert.equal(inside(reply.container), atOnce(REPLY), `cut at ${cut}`);
  }
});

test("a reply is at every moment what its text is, character by character", () => {
  const reply = growing();
  for (let end = 0; end <= REPLY.length; end++) {
    reply.update(REPLY.slice(0, end));
    assert.equal(inside(reply.container), atOnce(REPLY.slice(0, end)), `up to ${end}`);
  }
});

const PIECES = [
  "*", "**", "_", "~~", "`", "```", "```", "~~~", "[", "](https://a.de)", "![", "|", "|", "-", "-|-", ":-:|-",
  "---", "#", "# ", "\n", "\n", "\n", "\n\n",
  "\r", "\r\n", "> ", ">", "- ", "- ", "* ", "1. ", "1.", "2) ", "[ ] ", " ", "  ", "    ", "\t", "a", "b c",
  "a|b", "https://c.de", "\ud83d", "\ude00", "\u202e",
];

test("any text in any pieces ends as if it had come at once", () => {
  const pieces = fc.array(fc.array(fc.constantFrom(...PIECES), { maxLength: 6 }), { maxLength: 16 });
  fc.assert(fc.property(pieces, (deltas) => {
    const reply = growing();
    let text = "";
    for (const delta of deltas) {
      text += delta.join("");
      reply.update(text);
      assert.equal(inside(reply.container), atOnce(text));
    }
  }), { numRuns: 3000 });
});

test("what a block's kind was leaves nothing behind", () => {
  for (const pieces of [
    ["**\n2) a|b\n:-:|-\n", "c"],
    ["|\n:-:|-\n:-:|-", "*\n\n~~~"],
    ["```", "-|-`\n:-:|-"],
    ["a\n\nb|c\n-|-:", "d\ne|f\n-|-"],
    ["- a\n-", "-\n", "-\n"],
    ["a\n1", ". b\n\n2", ". c"],
  ]) {
    const reply = growing();
    let text = "";
    for (const piece of pieces) {
      reply.update((text += piece));
      assert.equal(inside(reply.container), atOnce(text), JSON.stringify(pieces));
    }
  }
});

test("a text that does not go on with the last one starts anew", () => {
  const text = fc.array(fc.constantFrom(...PIECES), { maxLength: 20 }).map((x) => x.join(""));
  fc.assert(fc.property(fc.array(text, { maxLength: 5 }), (replies) => {
    const reply = growing();
    for (const next of replies) {
      reply.update(next);
      assert.equal(inside(reply.container), atOnce(next));
    }
  }), { numRuns: 500 });
});

test("finished blocks keep their nodes, and the same text changes nothing", () => {
  const reply = growing();
  let text = "# a\n\nb *c*\n\n- d\n- e\n\nf";
  reply.update(text);
  const before = reply.container.childNodes;
  const made = { ...reply.made };
  reply.update(text);
  assert.deepEqual(reply.made, made);
  for (const more of [" g", " *h*", "\n\ni", "\n```\nj", "\n```\n"]) reply.update((text += more));
  assert.deepEqual(reply.container.childNodes.slice(0, 3), before.slice(0, 3));
  assert.equal(reply.container.childNodes[3], before[3]);
});

test("an open block of code grows by text alone", () => {
  const reply = growing();
  let text = "- a\n\n  ```py\n  b";
  for (const start of ["", text]) {
    text = start || "```py\nb";
    reply.update(text);
    const made = { ...reply.made };
    const code = [...within(reply.container)].find((x) => x instanceof PageElement && x.localName === "pre");
    for (let i = 0; i < 50; i++) reply.update((text += i % 7 ? ` ${i}` : "\n  "));
    assert.deepEqual(reply.made, made);
    assert.ok([...within(reply.container)].includes(/** @type {any} */ (code)));
  }
});

test("items of a list, rows of a table and words stay while more come", () => {
  for (const [begin, more] of [["- a", "\n- b"], ["a|b\n-|-", "\n|c|d|"], ["> a", "\n> b"], ["a", " b"]]) {
    const reply = growing();
    reply.update(begin);
    const nodes = [...within(reply.container)];
    reply.update(begin + more);
    reply.update(begin + more + more);
    const later = new Set(within(reply.container));
    assert.ok(nodes.every((node) => later.has(node)), begin);
  }
});

test("a megabyte in small pieces costs what is new", () => {
  const chapter = `${REPLY.slice(0, REPLY.indexOf("1. one"))}\n${"A paragraph of *words*. ".repeat(20)}\n\n`;
  const text = chapter.repeat(1e6 / chapter.length);
  const reply = growing();
  const start = performance.now();
  for (let end = 0; end < text.length; end += 500) reply.update(text.slice(0, end));
  reply.update(text);
  assert.ok(performance.now() - start < 10e3, "took too long");
  assert.equal(inside(reply.container), atOnce(text));
});
