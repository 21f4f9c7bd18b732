"""What every layer shares: artifacts, configuration, progress, run-time and errors."""
