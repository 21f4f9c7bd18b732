"""SAEs on disk and elsewhere: own artifacts, the published checkpoint, SAELens, the hub."""
