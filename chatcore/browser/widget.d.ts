// What the widget's modules share. Only the type checker reads this file; it is not served.
import type { ChatPersistence, ChatSession, Message } from "./types.js";

/** Every text of the widget but those of the list of conversations. `{n}` and other names in braces are filled in. */
export interface Strings {
  /** "rtl" where the language is written so, else empty. */
  direction: string;
  /** Where the page names none. */
  heading: string;
  /** Where the page names none. */
  greeting: string;
  close: string;
  conversations: string;
  newChat: string;
  back: string;
  messages: string;
  suggestions: string;
  youSaid: string;
  assistantSaid: string;
  typing: string;
  newReply: string;
  latest: string;
  copy: string;
  copied: string;
  good: string;
  bad: string;
  askAgain: string;
  sendAgain: string;
  stopped: string;
  input: string;
  send: string;
  stop: string;
  tooLong: string;
  offline: string;
  reconnecting: string;
  notSaved: string;
  notLoaded: string;
  /** A sentence for a code of the server or the client; the server's own sentence where there is none. */
  [code: `error_${string}`]: string | undefined;
}

/** The texts of the list of conversations, which is loaded later. */
export interface ConversationStrings {
  search: string;
  none: string;
  noneFound: string;
  more: string;
  untitled: string;
  delete: string;
  deleteOne: string;
  deleteAll: string;
  deleteEvery: string;
  cancel: string;
  exportJson: string;
  exportMarkdown: string;
  import: string;
  imported: string;
  importFailed: string;
  failed: string;
}

/** What a language has. */
export type Translation = Strings & ConversationStrings;

/** What a panel is made of. */
export interface Setup {
  session: ChatSession;
  persistence: ChatPersistence;
  shadow: ShadowRoot;
  strings: Strings & Partial<ConversationStrings>;
  /** The language of dates and numbers, which is that of the texts. */
  locale: string;
  heading: string;
  greeting: string;
  suggestions: string[];
  allowImages: boolean;
  /** Null where the panel is a part of the page. */
  close: (() => void) | null;
  /** Tell the page. */
  emit(name: string, detail: Record<string, unknown>): void;
}

/** What the views of a panel share. */
export interface Chat extends Setup {
  /** Said once by screen readers, shown nowhere. */
  say(text: string): void;
  /** False where nothing was taken. */
  send(text: string): Promise<boolean>;
  sendAgain(messageId: string): void;
  askAgain(messageId: string): void;
  /** Say that a module could not be loaded. */
  missing(): void;
  /** Back to where the visitor types; on touch screens that would open the keyboard, so there to the panel. */
  focus(): void;
}

export type Attributes = Record<string, string | boolean | null | undefined | ((event: any) => unknown)>;

export type Make = <Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, attributes?: Attributes, ...children: (Node | string)[]
) => HTMLElementTagNameMap[Tag];

export type IconButton = (
  icon: string, label: string, onclick: (event: MouseEvent) => unknown, attributes?: Attributes,
) => HTMLButtonElement;

export interface MessageView {
  readonly element: HTMLElement;
  readonly message: Message;
  /** Whether the message is the first of its day. */
  dated(first: boolean): void;
  update(message: Message, running: boolean): void;
  /** Move the countdown on; false where there is none. */
  tick(): boolean;
}

export type CreateMessageView = (chat: Chat, message: Message) => MessageView;

export interface MessageList {
  readonly element: HTMLElement;
  /** Load the open conversation's end, or the part around a message. */
  load(around?: Message): Promise<void>;
  apply(message: Message): void;
  removed(messageId: string): void;
  /** What is running has changed. */
  state(): void;
  toEnd(): void;
  /** Stay at the end after the list was hidden. */
  shown(): void;
  /** The text of a message as it is read. */
  spoken(message: Message): string;
  destroy(): void;
}

export type CreateMessageList = (chat: Chat) => MessageList;

export interface Composer {
  readonly element: HTMLElement;
  /** What is running has changed. */
  state(): void;
  focus(): void;
}

export type CreateComposer = (chat: Chat) => Composer;

export interface Panel {
  /** A section where the panel is a part of the page. */
  readonly element: HTMLDialogElement;
  /** Open or close; true where the focus was inside and is lost. */
  show(open: boolean): boolean;
  send(text: string): Promise<boolean>;
  destroy(): void;
}

export type CreatePanel = (setup: Setup) => Panel;

export interface ConversationsView {
  readonly element: HTMLElement;
  destroy(): void;
}

/** `open` is called with what was chosen: a conversation, or a message in it. */
export type CreateConversations = (
  chat: Chat, open: (sessionId: string, message?: Message) => void,
) => ConversationsView;
