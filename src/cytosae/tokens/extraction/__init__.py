"""Images through a backbone into a token store, in pieces that survive any interruption."""
