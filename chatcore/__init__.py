"""chatcore: a chat proxy between a public website and an n8n webhook."""

__version__ = "0.1.0"
