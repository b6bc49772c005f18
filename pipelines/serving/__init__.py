"""The champion, for whoever asks: one picture, or an HTTP server on this machine."""
