// Tells other tabs of changes by localStorage, where there is no BroadcastChannel.
/** @import { Channel } from "./history.js" */

const KEY = "chatcore/changed";

/** @type {(storage?: Storage) => Channel} */
export const createStorageChannel = (storage = globalThis.localStorage) => {
  /** @type {Channel} */
  const channel = {
    onmessage: null,
    // The event comes only where the value is another one.
    postMessage: (data) => storage.setItem(KEY, JSON.stringify({ data, nonce: Math.random() })),
  };
  addEventListener("storage", ({ key, newValue }) => {
    if (key === KEY && newValue) channel.onmessage?.(JSON.parse(newValue));
  });
  return channel;
};
