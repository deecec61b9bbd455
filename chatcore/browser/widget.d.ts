// What the widget's modules share. Only the type checker reads this file; it is not served.
import type { Again, ChatPersistence, ChatSession, FileNote, Message } from "./types.js";

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
  attach: string;
  attachAgain: string;
  /** Of a message whose files are not here any more. */
  filesLost: string;
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

/** The texts about files, which are loaded with the first one. */
export interface FileStrings {
  files: string;
  fileAdded: string;
  fileRemoved: string;
  removeFile: string;
  dropFiles: string;
  tooManyFiles: string;
  fileTooLarge: string;
  fileOfWrongType: string;
  attachAgainHint: string;
  sendingFiles: string;
  image: string;
  audio: string;
  video: string;
  text: string;
}

/** What a language has. */
export type Translation = Strings & ConversationStrings & FileStrings;

/** What a panel is made of. */
export interface Setup {
  session: ChatSession;
  persistence: ChatPersistence;
  shadow: ShadowRoot;
  strings: Strings & Partial<ConversationStrings & FileStrings>;
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
  /** False where nothing was taken. See `ChatSession.send`. */
  send: ChatSession["send"];
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
  /** How far its files are, see `ChatEvent`. */
  progress(share: number): void;
}

export type CreateMessageView = (chat: Chat, message: Message) => MessageView;

export interface MessageList {
  readonly element: HTMLElement;
  /** Load the open conversation's end, or the part around a message. */
  load(around?: Message): Promise<void>;
  apply(message: Message): void;
  removed(messageId: string): void;
  /** How far a question's files are, see `ChatEvent`. */
  progress(messageId: string, share: number): void;
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
  /** What is running has changed, or what may go along. */
  state(): void;
  focus(): void;
  /** Let the visitor complete a question whose files are not here. */
  again(question: Again): Promise<void>;
}

/** Where files come from; what shows them is loaded with the first. */
export interface Attachments {
  readonly button: HTMLButtonElement;
  /** What the server takes may have changed. */
  state(): void;
  /** The files, which begin anew, and what the message says where it has no words; no files where one may not go. */
  take(): Promise<[files: File[] | null, names: string]>;
  /** Begin anew with these, and say which are to be attached again. */
  again(held: File[], names?: string[]): Promise<void>;
}

export type CreateAttachments = (chat: Chat, composer: Composer, input: HTMLTextAreaElement) => Attachments;

/** Files that go along with the next message, above where one types. */
export interface FileTray {
  readonly element: HTMLElement;
  /** Laid over the panel while files are dragged over it. */
  readonly hint: HTMLElement;
  /** What the message says where it has no words. */
  text(): string;
  /** Open the browser's dialog. */
  pick(): void;
  /** Add what may go along, and say why the rest may not. */
  add(files: File[], folders?: File[]): void;
  /** Begin anew with what is here of the files of that name. */
  again(held: File[], names: string[]): void;
  /** Whether all may still go along; says why not. */
  check(): boolean;
  /** Give them and begin anew. */
  take(): File[];
}

export type CreateFileTray = (chat: Chat, changed: () => void) => FileTray;

export interface SentFiles {
  readonly element: HTMLElement;
  /** Null ends it. */
  progress(share: number | null): void;
}

export type CreateSentFiles = (chat: Chat, files: FileNote[]) => SentFiles;

export type CreateComposer = (chat: Chat) => Composer;

export interface Panel {
  /** A section where the panel is a part of the page. */
  readonly element: HTMLDialogElement;
  /** Open or close; true where the focus was inside and is lost. */
  show(open: boolean): boolean;
  send: ChatSession["send"];
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
