"""The n8n webhooks over HTTP: request, timeouts, circuit, status -> error; the only package with aiohttp."""

from chatcore.upstream.webhooks import N8nUpstream

__all__ = ["N8nUpstream"]
