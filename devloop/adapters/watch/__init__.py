"""Sources of file events: inotify, watchfiles, polling; mounts and links that decide which one is needed."""
