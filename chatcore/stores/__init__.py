"""Adapters of the ports, named port_technology, and one variant a main that plugs them together."""
