"""The HTTP service over the engine: validates specs, runs them, stores every point and serves it."""
