"""Jobs with progress and cancel: the same questions in process and over HTTP."""
