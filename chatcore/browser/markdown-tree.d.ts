// What Markdown becomes before it becomes nodes. Only the type checker reads this file; it is not served.

/** An element to be made, of the few kinds that `markdown.js` names; nothing of a text becomes a tag or a name. */
export interface TreeElement {
  tag: string;
  content: Tree[];
  attributes: Record<string, string>;
  /** Of a block: the line it begins at. */
  start?: number;
}

export type Tree = string | TreeElement;

export interface MarkdownOptions {
  document: Document;
  /** Show images of `http:` and `https:` instead of links to them. */
  allowImages?: boolean;
  /** `copyCode` is the label of the button on blocks of code. */
  strings: { copyCode: string };
  onCopy: (text: string, button: HTMLButtonElement) => void;
}

export interface MarkdownRenderer {
  /** Show this text. Where it begins with the one before, what is finished stays as it is. */
  update(text: string): void;
}

export type CreateRenderer = (container: ParentNode & Node, options: MarkdownOptions) => MarkdownRenderer;
export type Render = (text: string, options: MarkdownOptions) => DocumentFragment;
