"""Jobs with progress and cancellation: the same requests in process and over HTTP."""
