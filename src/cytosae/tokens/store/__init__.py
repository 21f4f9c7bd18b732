"""The token store on disk: how tokens are written down, found, checked and read in part."""
