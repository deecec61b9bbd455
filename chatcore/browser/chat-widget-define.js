// Defines `<chat-widget>` and gives the page `chatPersistence`: the only module that does something when imported.
import { chatPersistence } from "./chat-persistence.js";
import { ChatWidgetElement } from "./chat-widget-element.js";

if (!customElements.get("chat-widget")) customElements.define("chat-widget", ChatWidgetElement);
Object.assign(window, { chatPersistence });
