// A page for the Markdown renderer: as much of the DOM as it uses, and how to read what was made.

class PageNode {
  /** @type {PageElement | null} */ parentNode = null;
  /** @type {PageNode | null} */ nextSibling = null;
  /** @type {PageNode | null} */ previousSibling = null;

  remove() {
    const { parentNode: parent, nextSibling: next, previousSibling: previous } = this;
    if (!parent) return;
    if (previous) previous.nextSibling = next;
    else parent.firstChild = next;
    if (next) next.previousSibling = previous;
    else parent.lastChild = previous;
    this.parentNode = this.nextSibling = this.previousSibling = null;
  }

  /** @returns {string} */
  get textContent() {
    return "";
  }
}

export class PageText extends PageNode {
  /** @param {string} data */
  constructor(data) {
    super();
    this.data = data;
  }

  /** @param {string} more */
  appendData(more) {
    this.data += more;
  }

  get length() {
    return this.data.length;
  }

  /** @override */
  get textContent() {
    return this.data;
  }
}

export class PageElement extends PageNode {
  /** @type {PageNode | null} */ firstChild = null;
  /** @type {PageNode | null} */ lastChild = null;
  /** @type {Map<string, string>} */ attributes = new Map();
  /** @type {(() => void) | null} */ onclick = null;

  /** @param {string} localName */
  constructor(localName) {
    super();
    this.localName = localName;
  }

  /** @returns {Generator<PageNode>} */
  *children() {
    for (let node = this.firstChild; node; node = node.nextSibling) yield node;
  }

  get childNodes() {
    return [...this.children()];
  }

  /** @override */
  get textContent() {
    let text = "";
    for (const node of this.children()) text += node.textContent;
    return text;
  }

  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    assertName(name);
    if (typeof value !== "string") throw new TypeError(`${name} is ${typeof value}`);
    this.attributes.set(name, value);
  }

  /** @param {string} name */
  removeAttribute(name) {
    this.attributes.delete(name);
  }

  /** @param {string} name */
  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  /** @param {PageNode} node @param {PageNode | null} [before] */
  insertBefore(node, before) {
    node.remove();
    const previous = before ? before.previousSibling : this.lastChild;
    node.parentNode = this;
    node.previousSibling = previous;
    node.nextSibling = before ?? null;
    if (previous) previous.nextSibling = node;
    else this.firstChild = node;
    if (before) before.previousSibling = node;
    else this.lastChild = node;
    return node;
  }

  replaceChildren() {
    while (this.firstChild) this.firstChild.remove();
  }
}

/** @param {string} name */
const assertName = (name) => {
  if (!/^[a-z][a-z0-9-]*$/.test(name)) throw new TypeError(`not a name: ${name}`);
};

/** How often each kind of node was made, and the document that makes them. */
export const createPage = () => {
  const made = { elements: 0, texts: 0 };
  const document = {
    /** @param {string} name */
    createElement(name) {
      assertName(name);
      made.elements++;
      return new PageElement(name);
    },
    /** @param {string} data */
    createTextNode(data) {
      made.texts++;
      return new PageText(data);
    },
    createDocumentFragment: () => new PageElement("fragment"),
  };
  return { made, document: /** @type {any} */ (document) };
};

/**
 * What a node holds, as one reads it; the attributes that every node of its kind has are left out.
 * @param {PageNode} node
 * @returns {string}
 */
export const written = (node) => {
  if (node instanceof PageText) return node.data;
  const { localName, attributes } = /** @type {PageElement} */ (node);
  const named = [...attributes].sort().map(([name, value]) => ` ${name}="${value}"`).join("");
  const inner = [...(/** @type {PageElement} */ (node).children())].map(written).join("");
  if (localName === "fragment") return inner;
  return `<${localName}${named}>${/^(br|hr|img)$/.test(localName) ? "" : `${inner}</${localName}>`}`;
};

/** @param {PageNode} node @returns {Generator<PageNode>} */
export function* within(node) {
  yield node;
  if (node instanceof PageElement) for (const child of node.children()) yield* within(child);
}
