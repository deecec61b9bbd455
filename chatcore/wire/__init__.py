"""Bytes of n8n's answer to reply events, and reply events to a client's bytes. Pure; no clock, no sockets."""
