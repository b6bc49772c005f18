"""Where datasets come from: the schema of `sources/*.json`, the downloader, the archives."""
