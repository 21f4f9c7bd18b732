"""Studies and data sets as they are shown: all of it at a glance, side by side, and how good the SAE is."""
