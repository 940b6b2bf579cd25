"""Where work executes: child processes, a pool that keeps some warm, and a durable queue of jobs."""
