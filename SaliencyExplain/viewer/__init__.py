"""The engine and the scene in a browser: real slice views, and click to explain."""
