"""One file per client contract."""
