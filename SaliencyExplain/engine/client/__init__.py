"""An engine in another process or on another machine."""
