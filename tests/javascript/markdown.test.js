// What a reader sees of Markdown: every construct of the subset, and what stays text.
import assert from "node:assert/strict";
import test from "node:test";
import { createRenderer, parse, render } from "../../chatcore/browser/markdown.js";
import { PageElement, createPage, within, written } from "./markdown-page.js";

const OPTIONS = { strings: { copyCode: "Copy" }, onCopy: () => {} };

/** The rendering without what every block and link has. @param {string} text @param {boolean} [allowImages] */
const shown = (text, allowImages) => {
  const page = createPage();
  const fragment = render(text, { ...OPTIONS, document: page.document, allowImages });
  return written(/** @type {any} */ (fragment))
    .replaceAll(/ (dir="auto"|align="")/g, "")
    .replaceAll(' rel="noopener noreferrer nofollow" target="_blank"', "")
    .replaceAll(' loading="lazy" referrerpolicy="no-referrer"', "")
    .replaceAll(' class="md-table" role="group" tabindex="0"', "")
    .replaceAll(/<div class="md-code" dir="ltr"><div class="md-code-head">(.*?)(?=<button)/g, "<code-block $1>")
    .replaceAll('<button type="button">Copy</button></div><pre tabindex="0"><code>', "")
    .replaceAll("</code></pre></div>", "</code-block>");
};

const table = (/** @type {string} */ label, /** @type {string[]} */ ...rows) =>
  `<section aria-label="${label}"><table>${rows.map((x) => `<tr>${x}</tr>`).join("")}</table></section>`;
const aligned = (/** @type {string} */ way) => (/** @type {string} */ tag, /** @type {string} */ text) =>
  `<${tag} align="${way}">${text}</${tag}>`;
const [centred, right] = [aligned("center"), aligned("right")];

/** @type {Record<string, [string, string][]>} */
const EXAMPLES = {
  "paragraphs and lines": [
    ["a", "<p>a</p>"],
    ["", ""],
    [" \n\t\n", ""],
    ["a\n\nb", "<p>a</p><p>b</p>"],
    ["a\nb", "<p>a<br>b</p>"],
    ["a  \r\n  b\r\n\r\nc\r\n", "<p>a<br>b</p><p>c</p>"],
    ["a\\\nb", "<p>a<br>b</p>"],
    ["        not code", "<p>not code</p>"],
    ["a &lt;b&gt; &amp; &#106;", "<p>a &lt;b&gt; &amp; &#106;</p>"],
    ["<b onclick=x>hi</b><!-- c -->", "<p><b onclick=x>hi</b><!-- c --></p>"],
  ],
  headings: [
    ["# a", "<h3>a</h3>"],
    ["## a\n### b\n#### c\n##### d\n###### e", "<h3>a</h3><h3>b</h3><h4>c</h4><h4>d</h4><h4>e</h4>"],
    ["####### a", "<p>####### a</p>"],
    ["#a", "<p>#a</p>"],
    ["#", "<h3></h3>"],
    ["a\n# *b*\nc", "<p>a</p><h3><em>b</em></h3><p>c</p>"],
  ],
  "thematic breaks": [
    ["---", "<hr>"],
    ["a\n***\nb", "<p>a</p><hr><p>b</p>"],
    [" * * *\n_ __", "<hr><hr>"],
    ["--", "<p>--</p>"],
    ["--- a", "<p>--- a</p>"],
  ],
  emphasis: [
    ["*a* _b_ **c** __d__ ~~e~~", "<p><em>a</em> <em>b</em> <strong>c</strong> <strong>d</strong> <del>e</del></p>"],
    ["***a***", "<p><strong><em>a</em></strong></p>"],
    ["**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"],
    ["*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"],
    ["**a\nb**", "<p><strong>a<br>b</strong></p>"],
    ["snake_case_name and __init__.py", "<p>snake_case_name and <strong>init</strong>.py</p>"],
    ["f_(x) and g_(y)", "<p>f_(x) and g_(y)</p>"],
    ["2*3*4 = 24, x**2 + y**2", "<p>2*3*4 = 24, x**2 + y**2</p>"],
    ["2 * 3 * 4", "<p>2 * 3 * 4</p>"],
    ["**2*3**", "<p><strong>2*3</strong></p>"],
    ["**N**ational **P**ark", "<p><strong>N</strong>ational <strong>P</strong>ark</p>"],
    ["这是**重要：**请看", "<p>这是<strong>重要：</strong>请看</p>"],
    ["f(*args, **kwargs)", "<p>f(*args, **kwargs)</p>"],
    ["password: ********", "<p>password: ********</p>"],
    ["** a ** b", "<p>** a ** b</p>"],
    ["**[0, 1)**", "<p><strong>[0, 1)</strong></p>"],
    ["about ~5 or ~6", "<p>about ~5 or ~6</p>"],
    ["*a", "<p>*a</p>"],
    ["**a*", "<p>**a*</p>"],
    ["\\*a\\* \\_ \\` \\[ \\a", "<p>*a* _ ` [ \\a</p>"],
  ],
  "code in a line": [
    ["`a`", "<p><code>a</code></p>"],
    ["`` a ` b ``", "<p><code>a ` b</code></p>"],
    ["`*a* [b](http://c.de) \\`", "<p><code>*a* [b](http://c.de) \\</code></p>"],
    ["`a ``b", "<p>`a ``b</p>"],
    ["**`a**b`**", "<p><strong><code>a**b</code></strong></p>"],
    ["\\`a`", "<p>`a`</p>"],
  ],
  "blocks of code": [
    ["```js\na\n\n  b\n```\nc", "<code-block js>a\n\n  b</code-block><p>c</p>"],
    ["~~~\n```\n~~~", "<code-block >```</code-block>"],
    ["````\n```\n````", "<code-block >```</code-block>"],
    ["```\n*a*\n# b\n<c>", "<code-block >*a*\n# b\n<c></code-block>"],
    ["```", "<code-block ></code-block>"],
    ["a\n```\nb\n```", "<p>a</p><code-block >b</code-block>"],
    ["  ```\n  a\n    b\n\tc\n  ```", "<code-block >a\n  b\nc</code-block>"],
    ["```make\nall:\r\n\tgo\r\n```", "<code-block make>all:\n\tgo</code-block>"],
    ["```a`b", "<p>```a`b</p>"],
    ["- a\n  ```sh\n  b\n  ```\n- c", "<ul><li><p>a</p><code-block sh>b</code-block></li><li><p>c</p></li></ul>"],
  ],
  lists: [
    ["- a\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
    ["* a\n+ b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
    ["1. a\n2. b", '<ol start="1"><li><p>a</p></li><li><p>b</p></li></ol>'],
    ["7) a\n\n8) b", '<ol start="7"><li><p>a</p></li><li><p>b</p></li></ol>'],
    ["- a\n  - b\n    - c", "<ul><li><p>a</p><ul><li><p>b</p><ul><li><p>c</p></li></ul></li></ul></li></ul>"],
    ["- a\n  - b\n- c", "<ul><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ul>"],
    ["1. a\n   - b\n2. c", '<ol start="1"><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ol>'],
    ["1. a\n  - b", '<ol start="1"><li><p>a</p><ul><li><p>b</p></li></ul></li></ol>'],
    ["- a\n\t- b\n\t\t- c", "<ul><li><p>a</p><ul><li><p>b</p><ul><li><p>c</p></li></ul></li></ul></li></ul>"],
    ["\t- a\n\t- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
    ["- a\n\n  b\n\nc", "<ul><li><p>a</p><p>b</p></li></ul><p>c</p>"],
    ["- a\n- \n-", "<ul><li><p>a</p></li><li></li><li></li></ul>"],
    ["- a\n1. b", '<ul><li><p>a</p></li></ul><ol start="1"><li><p>b</p></li></ol>'],
    ["a\n- b\nc", "<p>a</p><ul><li><p>b</p></li></ul><p>c</p>"],
    ["born in\n1990. And", "<p>born in<br>1990. And</p>"],
    ["a\n-\n1.", "<p>a<br>-<br>1.</p>"],
    ["- [ ] a\n- [x] b\n- [X] c", "<ul><li><p>☐ a</p></li><li><p>☑ b</p></li><li><p>☑ c</p></li></ul>"],
    ["-a\n1.b\n1234567890. c", "<p>-a<br>1.b<br>1234567890. c</p>"],
    ["- a\n* * *", "<ul><li><p>a</p></li></ul><hr>"],
  ],
  quotes: [
    ["> a\n> b", "<blockquote><p>a<br>b</p></blockquote>"],
    [">a\n>> b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"],
    ["a\n> - b\n>   c\n\nd", "<p>a</p><blockquote><ul><li><p>b<br>c</p></li></ul></blockquote><p>d</p>"],
    ["> ```\n> a\n> ```", "<blockquote><code-block >a</code-block></blockquote>"],
  ],
  tables: [
    ["a|b\n-|-", table("a, b", "<th>a</th><th>b</th>")],
    ["| a | b |\n|:-:|--:|\nc", `${table("a, b", centred("th", "a") + right("th", "b"))}<p>c</p>`],
    ["a|b\n-|-:\n*1*|2", table("a, b", `<th>a</th>${right("th", "b")}`, `<td><em>1</em></td>${right("td", "2")}`)],
    ["|a|\n|-|\n|b|c|\n||", table("a", "<th>a</th>", "<td>b</td><td>c</td>", "<td></td>")],
    ["| |a|\n|-|-|\n|b|c|", table(", a", "<td></td><th>a</th>", "<td>b</td><td>c</td>")],
    ["x\na\n|-|\n\\||`\\|`", "<p>x<br>a<br>|-|<br>||<code>\\|</code></p>"],
    ["x\n|a|\n|-|\n\\| `\\|`", `<p>x</p>${table("a", "<th>a</th>", "<td>| <code>|</code></td>")}`],
    ["a|b\n-|-|-", "<p>a|b<br>-|-|-</p>"],
    ["a|b\n--", "<p>a|b<br>--</p>"],
    ["a\n-|-", "<p>a<br>-|-</p>"],
    ["|a|\n---", "<p>|a|</p><hr>"],
  ],
  links: [
    ["[a](https://b.de/c)", '<p><a href="https://b.de/c">a</a></p>'],
    ['[a *b*]( http://b.de "c (d" )', '<p><a href="http://b.de/">a <em>b</em></a></p>'],
    ["[a](mailto:b@c.de)", '<p><a href="mailto:b@c.de">a</a></p>'],
    ["[a](https://b.de/c_(d)) e", '<p><a href="https://b.de/c_(d)">a</a> e</p>'],
    ["**[a](https://b.de)**", '<p><strong><a href="https://b.de/">a</a></strong></p>'],
    ["word[1](https://b.de)", '<p>word<a href="https://b.de/">1</a></p>'],
    ["[[a](https://b.de)]", '<p>[<a href="https://b.de/">a</a>]</p>'],
    ["<https://b.de/*c*>", '<p><a href="https://b.de/*c*">https://b.de/*c*</a></p>'],
    ["<mailto:a@b.de>", '<p><a href="mailto:a@b.de">mailto:a@b.de</a></p>'],
    ["see https://b.de/c_d_e?f=*g*.", '<p>see <a href="https://b.de/c_d_e?f=*g">https://b.de/c_d_e?f=*g</a>*.</p>'],
    ["(https://b.de/c_(d))", '<p>(<a href="https://b.de/c_(d)">https://b.de/c_(d)</a>)</p>'],
    ["**https://b.de**", '<p><strong><a href="https://b.de/">https://b.de</a></strong></p>'],
    ["请看https://b.de。好", '<p>请看<a href="https://b.de/">https://b.de</a>。好</p>'],
    ["xhttps://b.de https:// http:", "<p>xhttps://b.de https:// http:</p>"],
    ["[a](/b) [a](b.html) [a](#c) [a](//b.de) [a]()", "<p>[a](/b) [a](b.html) [a](#c) [a](//b.de) [a]()</p>"],
    ["[a] [b][c] [d]: e", "<p>[a] [b][c] [d]: e</p>"],
    ["[a [b](/c) d](https://e.de)", '<p><a href="https://e.de/">a [b](/c) d</a></p>'],
    ["*a [b*](https://c.de)", '<p>*a <a href="https://c.de/">b*</a></p>'],
    ["[`a[0]`](https://b.de)", '<p><a href="https://b.de/"><code>a[0]</code></a></p>'],
    ["[a](https://b.de/c\\_d)", '<p><a href="https://b.de/c_d">a</a></p>'],
    ["[](https://b.de)", '<p><a href="https://b.de/">https://b.de</a></p>'],
  ],
};

for (const [name, examples] of Object.entries(EXAMPLES)) {
  test(`shows ${name}`, () => {
    for (const [text, expected] of examples) assert.equal(shown(text), expected, JSON.stringify(text));
  });
}

test("a link whose text looks like another address shows where it leads", () => {
  const named = (/** @type {string} */ text) => /<bdi class="md-host"> \((.*)\)<\/bdi>/.exec(shown(text))?.[1];
  for (const text of [
    "paypal.com", "https://paypal.com", "www.paypal.com/login", "Go to paypal.com now", "pay**pal.c**om", "PayPal.COM",
    "paypal\u200b.com", "ｐａｙｐａｌ．ｃｏｍ", "paypal。com", "https://paypal.com/?evil.de", "https://paypal.com@evil.de",
    "http://localhost", "evil.de.paypal.com", "a@paypal.com", "evil.de paypal.com", "paypal.com`#`",
  ]) assert.equal(named(`[${text}](https://evil.de/x)`), "evil.de", text);
  for (const text of ["evil.de", "https://evil.de", "http://www.evil.de/y", "Evil.de?q", "click here", "1.5 of 2"]) {
    assert.equal(named(`[${text}](https://www.evil.de/x)`), undefined, text);
  }
  assert.equal(named("[a@b.de](mailto:a@b.de)"), undefined);
  assert.equal(named("[a@b.de](mailto:evil@c.de?subject=a@b.de)"), "evil@c.de");
  assert.equal(named("https://аррӏе.com"), "xn--80ak6aa92e.com");
  assert.equal(named("![paypal.com](https://evil.de)"), "evil.de");
  assert.equal(named("[![paypal.com](https://evil.de)](https://evil.de)"), "evil.de");
});

test("images are links until they are allowed", () => {
  const text = "![a *b*](https://c.de/d.png)";
  assert.equal(shown(text), '<p><span><a href="https://c.de/d.png">a <em>b</em></a></span></p>');
  assert.equal(shown(text, true), '<p><img alt="a *b*" src="https://c.de/d.png"></p>');
  assert.equal(shown("![](https://c.de/d)"), '<p><span><a href="https://c.de/d">https://c.de/d</a></span></p>');
  const linked = "[![a](https://c.de/d)](https://e.de)";
  const host = '<bdi class="md-host"> (e.de)</bdi>';
  assert.equal(shown(linked), `<p><a href="https://e.de/"><span>a</span>${host}</a></p>`);
  assert.equal(shown(linked, true), `<p><a href="https://e.de/"><img alt="a" src="https://c.de/d">${host}</a></p>`);
  for (const source of ["data:image/png;base64,AA==", "mailto:a@b.de", "/a.png", "blob:https://a.de/b"]) {
    assert.ok(!shown(`![a](${source})`, true).includes("<img"), source);
  }
});

test("overrides and isolates of direction become visible, marks stay", () => {
  const text = "a\u202eb\u2066c\u200fd\u200ee\u061cf";
  const safe = "a\ufffdb\ufffdc\u200fd\u200ee\u061cf";
  assert.equal(shown(text), `<p>${safe}</p>`);
  assert.equal(shown(`\`\`\`\n${text}`), `<code-block >${safe}</code-block>`);
  assert.equal(shown(`[${text}](https://b.de)`), `<p><a href="https://b.de/">${safe}</a></p>`);
});

test("every block finds its direction by itself, code is left to right", () => {
  const page = createPage();
  const text = "a `b` [c](https://d.de)\n# e\n- f\n1. g\n> h\n\ni|j\n-|-\n\n```\nk\n```";
  const fragment = /** @type {any} */ (render(text, { ...OPTIONS, document: page.document }));
  const ways = [...within(fragment)].flatMap((node) =>
    node instanceof PageElement && node.getAttribute("dir") ? [`${node.localName} ${node.getAttribute("dir")}`] : []);
  assert.deepEqual(ways, [
    "p auto", "code auto", "a auto", "h3 auto", "ul auto", "ol auto", "blockquote auto", "section auto", "div ltr",
  ]);
});

test("a button copies the block of code that it stands over, as it is by then", () => {
  const page = createPage();
  const container = /** @type {any} */ (page.document.createDocumentFragment());
  /** @type {unknown[]} */
  const copied = [];
  const renderer = createRenderer(container, {
    ...OPTIONS,
    document: page.document,
    onCopy: (text, button) => copied.push(text, /** @type {any} */ (button)),
  });
  renderer.update("```\na");
  const nodes = [...within(container)];
  const button = /** @type {any} */ (nodes.find((x) => x instanceof PageElement && x.localName === "button"));
  renderer.update("```\na <b>\n  c\n```\n");
  button.onclick();
  assert.deepEqual(copied, ["a <b>\n  c", button]);
});

test("the tree is plain data", () => {
  const tree = parse("# a\n\n- *b*\n");
  assert.deepEqual(JSON.parse(JSON.stringify(tree)), tree);
  assert.deepEqual(tree.map((x) => /** @type {any} */ (x).tag), ["h3", "ul"]);
});
