"""A reply for n8n's own widget: as the JSON lines of n8n's stream (2.41), or as one document.

The widget shows each node's text in a bubble of its own, so every segment comes as another node. Texts must hold no
lone surrogates; the decoding half lets none through.
"""

from typing import Any, Literal

import msgspec

HEARTBEAT = b"\n"
"""A blank line, which the widget skips."""

NODE_NAME = "chatcore"


def encode_line(
    kind: Literal["begin", "item", "end", "error"], node_id: str, at: float, content: str | None = None
) -> bytes:
    """Give one line of the node `node_id`; `at` is the time in epoch seconds. An item and an error have a `content`."""
    metadata = {"nodeId": node_id, "nodeName": NODE_NAME, "itemIndex": 0, "runIndex": 0, "timestamp": int(at * 1000)}
    line: dict[str, Any] = {"type": kind}
    if content is not None:
        line["content"] = content
    line["metadata"] = metadata
    return _ENCODE(line) + b"\n"


def encode_output(text: str, sentence: str | None) -> bytes:
    """Give the document of a whole reply; `sentence` says why it ended early, if it did.

    The widget shows `output`, or `message` where there is none, and an empty `output` as raw JSON.
    """
    if sentence is None:
        return _ENCODE({"output": text})
    return _ENCODE({"output": f"{text}\n\n{sentence}"} if text else {"message": sentence})


_ENCODE = msgspec.json.Encoder().encode
