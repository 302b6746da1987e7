"""Pages and pictures for people: self-contained files that open offline."""
